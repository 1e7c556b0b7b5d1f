/* Memory for fibers' stacks: the one thing below the environment that comes from the machine itself, in the simulator
 * too. Each stack has a page without access under it, so that an overflow ends the process instead of changing
 * somebody's data. Any thread. */
#ifndef OXBOW_RT_LINUX_STACK_H
#define OXBOW_RT_LINUX_STACK_H

#include <stddef.h>

struct fiber_stack {
    void *base;  /* the lowest usable byte; the guard page lies right below */
    size_t size; /* usable bytes, a multiple of the page size */
};

/* Never fails: a process without address space for a stack is beyond help. The memory is zero and costs nothing until
 * touched. */
struct fiber_stack stack_map(void);
void stack_unmap(struct fiber_stack s);

#endif
