/* The intrusive list: order, removal while walking, splicing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct list node;
};

static void expect(struct list *head, const char *digits) {
    char found[32];
    size_t n = 0;
    LIST_EACH(it, head) found[n++] = (char)('0' + LIST_ENTRY(it, struct item, node)->value);
    found[n] = '\0';
    assert_string_equal(found, digits);
    n = 0; /* and the way back */
    for (struct list *it = head->prev; it != head; it = it->prev) n++;
    assert_int_equal(n, strlen(digits));
}

static void test_order(void **state) {
    (void)state;
    struct list head;
    struct item items[4];
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 4; i++) items[i].value = i;
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[2].node);
    list_push_front(&head, &items[0].node);
    expect(&head, "012");
    list_push_back(&head, &items[3].node);
    list_remove(&items[1].node);
    list_remove(&items[1].node); /* harmless */
    expect(&head, "023");
    assert_ptr_equal(list_pop_front(&head), &items[0].node);
    assert_true(list_empty(&items[0].node));
    expect(&head, "23");
}

static void test_remove_while_walking(void **state) {
    (void)state;
    struct list head;
    struct item items[6];
    list_init(&head);
    for (int i = 0; i < 6; i++) {
        items[i].value = i;
        list_push_back(&head, &items[i].node);
    }
    LIST_EACH_SAFE(it, &head) {
        if (LIST_ENTRY(it, struct item, node)->value % 2 == 0) list_remove(it);
    }
    expect(&head, "135");
}

static void test_splice(void **state) {
    (void)state;
    struct list a, b;
    struct item items[4];
    list_init(&a);
    list_init(&b);
    for (int i = 0; i < 4; i++) {
        items[i].value = i;
        list_push_back(i < 2 ? &a : &b, &items[i].node);
    }
    list_splice_back(&a, &b);
    expect(&a, "0123");
    assert_true(list_empty(&b));
    list_splice_back(&a, &b);
    expect(&a, "0123");
    list_splice_back(&b, &a);
    expect(&b, "0123");
    assert_true(list_empty(&a));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_remove_while_walking),
        cmocka_unit_test(test_splice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
