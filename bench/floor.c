/* The floor: a broker that does with a byte nothing but what no broker with a log and a store can leave out.
 *
 *   floor FOLDER FRAME GROUP MEGABYTES TURNS
 *
 * One thread, four connections in and four out; FRAME bytes are received, checksummed, copied into an aligned block,
 * which is written once it holds GROUP bytes (O_DIRECT|O_DSYNC, up to four under way), answered with 64 bytes, sent to
 * one of the consumers; behind them the blocks are copied once more and written as the upload. There is no protocol, no
 * index, nothing that is looked up.
 *
 * One line of name=value pairs for each turn on standard output. "cpu" is processor seconds (user and system) per GB
 * (10^9 bytes) in and out, of that process alone: the clients are another. "parts" tells what a line is without, so
 * that differences are the prices of the passes:
 *
 *   all              everything
 *   small-pages      its memory in pages of 4 KiB; otherwise in large ones, where the system has them
 *   no-crc           without the checksum
 *   no-upload-copy   uploads are written straight from the blocks
 *   no-upload        no uploads
 *   network          recv, the copy into a block, answers, send
 *
 * First a turn in which consumers compare what they get with what was sent and both files are read back ("checked"),
 * then MEGABYTES in each turn of each.
 *
 * FOLDER must be on the file system that the broker's data will be on. Its files are deleted as soon as they are open. */
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "yardstick.h"

#define CONNECTIONS 4u /* in, and as many out */
#define UNANSWERED 5u  /* frames of a connection */
#define ANSWER ((size_t)64)
#define KINDS 4u /* different frames; a producer sends them in turns */
#define FRAME_MAX ((size_t)1 << 20)
#define GROUP_MAX ((size_t)1 << 20)
#define FLOOR_FILE ((size_t)1 << 30)
#define HELD                                                                                                           \
    ((size_t)128 << 20) /* bytes of blocks in memory; half of it waits for its upload, as much as an object holds */
#define LARGE_PAGE ((size_t)2 << 20)
#define LOG_DEPTH 4u
#define UPLOAD_DEPTH 2u
#define SEND_MAX ((size_t)1 << 20)

enum { CRC = 1, LOG = 2, UPLOAD = 4, UPLOAD_COPY = 8, CHECKED = 16, SMALL_PAGES = 32 };

/* io_uring by its system calls, so that nothing is linked that a machine may not have. Never full: less is under way. */
struct ring {
    int fd;
    unsigned ready, *sq_array, *cq_head, sq_mask, cq_mask;
    _Atomic unsigned *sq_tail, *cq_tail;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
};

static void ring_open(struct ring *r) {
    struct io_uring_params p = {0};
    r->fd = (int)syscall(SYS_io_uring_setup, 16, &p);
    if (r->fd < 0) die("io_uring");
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned), cq = p.cq_off.cqes + p.cq_entries * sizeof(*r->cqes);
    uint8_t *rings = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
    r->sqes = mmap(NULL, p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
    if (!(p.features & IORING_FEAT_SINGLE_MMAP) || rings == MAP_FAILED || r->sqes == MAP_FAILED)
        die("io_uring's memory");
    r->sq_array = (void *)(rings + p.sq_off.array);
    r->sq_tail = (void *)(rings + p.sq_off.tail);
    r->sq_mask = p.sq_entries - 1;
    r->cq_head = (void *)(rings + p.cq_off.head);
    r->cq_tail = (void *)(rings + p.cq_off.tail);
    r->cqes = (void *)(rings + p.cq_off.cqes);
    r->cq_mask = p.cq_entries - 1;
    r->ready = 0;
}

static void ring_write(struct ring *r, int fd, const uint8_t *from, size_t size, off_t at, uint64_t tag) {
    unsigned tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed), i = tail & r->sq_mask;
    r->sqes[i] = (struct io_uring_sqe){.opcode = IORING_OP_WRITE,
                                       .fd = fd,
                                       .addr = (uintptr_t)from,
                                       .len = (unsigned)size,
                                       .off = (uint64_t)at,
                                       .user_data = tag};
    r->sq_array[i] = i;
    atomic_store_explicit(r->sq_tail, tail + 1, memory_order_release);
    r->ready++;
}

static void ring_submit(struct ring *r) {
    if (r->ready > 0 && syscall(SYS_io_uring_enter, r->fd, r->ready, 0, 0, NULL, 0) != r->ready) die("io_uring_enter");
    r->ready = 0;
}

/* False: nothing has ended. */
static bool ring_ended(struct ring *r, struct io_uring_cqe *cqe) {
    unsigned head = *r->cq_head;
    if (head == atomic_load_explicit(r->cq_tail, memory_order_acquire)) return false;
    *cqe = r->cqes[head & r->cq_mask];
    atomic_store_explicit((_Atomic unsigned *)r->cq_head, head + 1, memory_order_release);
    return true;
}

/* Memory that both processes see. */
struct tally {
    _Atomic uint64_t received, wrong;
};

/* Part of the stream of frames, which lie in it in the order in which they came. Nothing is forgotten: a run is short. */
struct floor_block {
    uint64_t start;
    uint32_t used;
    bool logged, uploaded;
};

struct floor_memory {
    uint8_t *blocks, *uploads[UPLOAD_DEPTH], *in[CONNECTIONS];
};

struct floor_broker {
    size_t frame, group;
    unsigned parts;
    uint64_t frames; /* that will come */
    uint8_t *kinds[KINDS];
    unsigned kind_crc[KINDS];

    struct floor_block *blocks;
    struct floor_memory *memory; /* its blocks: the last `held` ones */
    size_t held;
    uint64_t open, submitted, durable, uploading, freed; /* blocks: all before this one are sealed, under way, ... */
    unsigned logs;                                       /* writes of the log under way */
    uint64_t upload_of[UPLOAD_DEPTH];                    /* 0: free; otherwise the block, and one */
    uint64_t taken, answered;                            /* frames */
    uint8_t *kind_of, *from;                             /* by frame */
    uint64_t *block_of;                                  /* by frame: where it begins */
    int log_fd, upload_fd, epoll_fd;
    struct ring *ring; /* of all turns */
    struct floor_in {
        int fd;
        size_t have;
        uint64_t count;
        unsigned answers;
        bool full; /* a frame waits for room */
    } in[CONNECTIONS];
    struct floor_out {
        int fd;
        uint64_t frame, block; /* that is being sent, and where the rest of it begins */
        size_t done;
        bool blocked;
    } out[CONNECTIONS];
};

static uint8_t *block_memory(struct floor_broker *b, uint64_t block) {
    return b->memory->blocks + block % b->held * b->group;
}

static off_t block_place(struct floor_broker *b, uint64_t block) {
    return (off_t)(block % (FLOOR_FILE / b->group) * b->group);
}

static size_t block_padded(struct floor_broker *b, uint64_t block) {
    return (b->blocks[block].used + ALIGN - 1) / ALIGN * ALIGN;
}

static void floor_write(struct floor_broker *b, int fd, const uint8_t *from, uint64_t block, uint64_t tag) {
    ring_write(b->ring, fd, from, block_padded(b, block), block_place(b, block), block << 4 | tag);
}

static void floor_seal(struct floor_broker *b) {
    struct floor_block *sealed = &b->blocks[b->open++];
    memset(block_memory(b, b->open - 1) + sealed->used, 0, block_padded(b, b->open - 1) - sealed->used);
    b->blocks[b->open].start = sealed->start + sealed->used;
}

static bool floor_room(struct floor_broker *b) {
    return b->open + b->frame / b->group + 2 < b->freed + b->held;
}

static void floor_take(struct floor_broker *b, struct floor_in *c) {
    unsigned kind = (unsigned)(c->count++ % KINDS);
    if ((b->parts & CRC) && crc32_iscsi(b->memory->in[c - b->in], (int)b->frame, ~0u) != b->kind_crc[kind])
        die("a frame's checksum");
    uint64_t f = b->taken++;
    b->kind_of[f] = (uint8_t)kind;
    b->from[f] = (uint8_t)(c - b->in);
    if (b->blocks[b->open].used == b->group) floor_seal(b);
    b->block_of[f] = b->open;
    for (size_t done = 0; done < b->frame;) {
        if (b->blocks[b->open].used == b->group) floor_seal(b);
        struct floor_block *to = &b->blocks[b->open];
        size_t n = b->group - to->used < b->frame - done ? b->group - to->used : b->frame - done;
        memcpy(block_memory(b, b->open) + to->used, b->memory->in[c - b->in] + done, n);
        to->used += (uint32_t)n;
        done += n;
    }
    c->have = 0;
}

static void floor_watch(struct floor_broker *b, struct floor_in *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(b->epoll_fd, EPOLL_CTL_MOD, c->fd, &e) != 0) die("epoll_ctl");
}

static void floor_receive(struct floor_broker *b, struct floor_in *c) {
    for (;;) {
        if (c->have == b->frame) {
            if (!floor_room(b)) {
                c->full = true;
                floor_watch(b, c, 0);
                return;
            }
            floor_take(b, c);
        }
        size_t wanted = b->frame - c->have;
        ssize_t n = recv(c->fd, b->memory->in[c - b->in] + c->have, wanted, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("recv");
        if (n == 0) {
            floor_watch(b, c, 0);
            return;
        }
        c->have += (size_t)n;
        if ((size_t)n < wanted) return;
    }
}

static void floor_send(struct floor_broker *b, struct floor_out *c) {
    while (!c->blocked && c->frame < b->answered) {
        struct iovec pieces[64];
        struct msghdr m = {.msg_iov = pieces};
        size_t bytes = 0, at = c->done;
        uint64_t block = c->block;
        for (uint64_t f = c->frame; f < b->answered && bytes < SEND_MAX && m.msg_iovlen < 60;) {
            uint64_t from = f * b->frame + at;
            while (b->blocks[block].start + b->blocks[block].used <= from) block++;
            size_t skip = from - b->blocks[block].start, n = b->blocks[block].used - skip;
            if (n > b->frame - at) n = b->frame - at;
            pieces[m.msg_iovlen++] = (struct iovec){block_memory(b, block) + skip, n};
            bytes += n;
            at += n;
            if (at == b->frame) {
                at = 0;
                f += CONNECTIONS;
                if (f < b->answered) block = b->block_of[f];
            }
        }
        ssize_t n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) die("sendmsg");
        if (n < (ssize_t)bytes) c->blocked = true;
        for (size_t left = n < 0 ? 0 : (size_t)n; left > 0;) {
            size_t part = left < b->frame - c->done ? left : b->frame - c->done;
            left -= part;
            c->done += part;
            if (c->done == b->frame) {
                c->done = 0;
                c->frame += CONNECTIONS;
            }
        }
        if (c->frame < b->taken && c->block < b->block_of[c->frame]) c->block = b->block_of[c->frame];
    }
}

/* What has become durable is answered and sent. */
static void floor_advance(struct floor_broker *b) {
    uint64_t before = b->answered;
    while (b->durable < b->submitted && b->blocks[b->durable].logged) b->durable++;
    for (uint64_t end = b->blocks[b->durable].start; b->answered < b->taken && (b->answered + 1) * b->frame <= end;
         b->answered++)
        b->in[b->from[b->answered]].answers++;
    if (b->answered == before) return;
    static const uint8_t answers[UNANSWERED * ANSWER];
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct floor_in *c = &b->in[i];
        ssize_t size = (ssize_t)(c->answers * ANSWER);
        if (size > 0 && send(c->fd, answers, (size_t)size, MSG_NOSIGNAL) != size) die("send");
        c->answers = 0;
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) floor_send(b, &b->out[i]);
}

/* Starts what may start. A block that is not full waits for more, unless nobody has anything else to do. */
static void floor_start(struct floor_broker *b, bool idle) {
    if (b->blocks[b->open].used == b->group ||
        (idle && b->logs == 0 && b->submitted == b->open && b->blocks[b->open].used > 0))
        floor_seal(b);
    for (; b->submitted < b->open && b->logs < LOG_DEPTH; b->submitted++) {
        if (b->parts & LOG) {
            floor_write(b, b->log_fd, block_memory(b, b->submitted), b->submitted, 0);
            b->logs++;
        } else {
            b->blocks[b->submitted].logged = true;
        }
    }
    floor_advance(b);
    bool last = b->taken == b->frames;
    for (; b->uploading < b->durable; b->uploading++) {
        if (!last && b->durable - b->uploading < b->held / 2) break;
        if (!(b->parts & UPLOAD)) {
            b->blocks[b->uploading].uploaded = true;
            continue;
        }
        unsigned i = 0;
        while (i < UPLOAD_DEPTH && b->upload_of[i]) i++;
        if (i == UPLOAD_DEPTH) break;
        const uint8_t *from = block_memory(b, b->uploading);
        if (b->parts & UPLOAD_COPY) from = memcpy(b->memory->uploads[i], from, block_padded(b, b->uploading));
        b->upload_of[i] = b->uploading + 1;
        floor_write(b, b->upload_fd, from, b->uploading, i + 1);
    }
    ring_submit(b->ring);
}

static void floor_complete(struct floor_broker *b) {
    struct io_uring_cqe cqe;
    while (ring_ended(b->ring, &cqe)) {
        uint64_t tag = cqe.user_data & 15, block = cqe.user_data >> 4;
        errno = cqe.res < 0 ? -cqe.res : 0;
        if (cqe.res != (int)block_padded(b, block)) die("a write");
        if (tag == 0) {
            b->logs--;
            b->blocks[block].logged = true;
        } else {
            b->upload_of[tag - 1] = 0;
            b->blocks[block].uploaded = true;
        }
    }
}

/* Blocks that nobody needs any more are used again, and who waited for them goes on. */
static void floor_free(struct floor_broker *b) {
    uint64_t sent = UINT64_MAX;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (b->out[i].frame < b->frames && b->out[i].frame * b->frame + b->out[i].done < sent)
            sent = b->out[i].frame * b->frame + b->out[i].done;
    }
    while (b->freed < b->durable && b->blocks[b->freed].uploaded &&
           b->blocks[b->freed].start + b->blocks[b->freed].used <= sent)
        b->freed++;
    for (unsigned i = 0; i < CONNECTIONS && floor_room(b); i++) {
        struct floor_in *c = &b->in[i];
        if (!c->full) continue;
        c->full = false;
        floor_watch(b, c, EPOLLIN);
        floor_receive(b, c);
    }
}

static void floor_serve(struct floor_broker *b) {
    struct epoll_event events[16];
    while (b->freed < b->open || b->answered < b->frames || b->blocks[b->open].used > 0) {
        bool may_seal = b->logs == 0 && b->blocks[b->open].used > 0;
        int n = epoll_wait(b->epoll_fd, events, 16, may_seal ? 0 : -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            void *p = events[i].data.ptr;
            if (!p) continue;
            if ((struct floor_in *)p >= b->in && (struct floor_in *)p < b->in + CONNECTIONS) {
                floor_receive(b, p);
            } else {
                ((struct floor_out *)p)->blocked = false;
                floor_send(b, p);
            }
        }
        floor_complete(b);
        floor_start(b, n == 0);
        floor_free(b);
    }
}

/* --- Its clients. */

struct floor_client {
    int fd;
    size_t frame;
    uint64_t frames;
    bool checked;
    uint8_t **kinds;
    struct tally *tally;
};

static void *floor_produce(void *arg) {
    struct floor_client *c = arg;
    uint8_t answers[UNANSWERED * ANSWER];
    for (uint64_t sent = 0, answered = 0; answered < c->frames * ANSWER;) {
        if (sent < c->frames && sent - answered / ANSWER < UNANSWERED) {
            for (size_t done = 0; done < c->frame;) {
                ssize_t n = send(c->fd, c->kinds[sent % KINDS] + done, c->frame - done, MSG_NOSIGNAL);
                if (n <= 0) die("send");
                done += (size_t)n;
            }
            sent++;
            continue;
        }
        ssize_t n = recv(c->fd, answers, sizeof(answers), 0);
        if (n <= 0) die("an answer");
        answered += (uint64_t)n;
    }
    shutdown(c->fd, SHUT_WR);
    return NULL;
}

static void *floor_consume(void *arg) {
    struct floor_client *c = arg;
    size_t size = c->checked ? c->frame : 4 * PIECE;
    uint8_t *data = pages(size);
    for (ssize_t n; (n = recv(c->fd, data, size, c->checked ? MSG_WAITALL : 0)) > 0;) {
        atomic_fetch_add(&c->tally->received, (uint64_t)n);
        if (!c->checked) continue;
        unsigned kind = 0;
        while (kind < KINDS && ((size_t)n != c->frame || memcmp(data, c->kinds[kind], c->frame) != 0)) kind++;
        if (kind == KINDS) atomic_fetch_add(&c->tally->wrong, 1);
    }
    free(data);
    return NULL;
}

__attribute__((noreturn)) static void floor_clients(struct floor_broker *b, const struct sockaddr_in *a,
                                                    struct tally *tally) {
    pthread_t threads[2 * CONNECTIONS];
    struct floor_client clients[2 * CONNECTIONS];
    for (unsigned i = 0; i < 2 * CONNECTIONS; i++) {
        clients[i] = (struct floor_client){.fd = socket(AF_INET, SOCK_STREAM, 0),
                                           .frame = b->frame,
                                           .frames = b->frames / CONNECTIONS,
                                           .checked = b->parts & CHECKED,
                                           .kinds = b->kinds,
                                           .tally = tally};
        if (clients[i].fd < 0 || connect(clients[i].fd, (const struct sockaddr *)a, sizeof(*a)) != 0) die("connect");
    }
    for (unsigned i = 0; i < 2 * CONNECTIONS; i++) {
        errno = pthread_create(&threads[i], NULL, i < CONNECTIONS ? floor_produce : floor_consume, &clients[i]);
        if (errno != 0) die("thread");
    }
    for (unsigned i = 0; i < 2 * CONNECTIONS; i++) (void)pthread_join(threads[i], NULL);
    _exit(0);
}

/* --- A turn. */

/* The part of the stream that is still in a file is what was sent, in the order in which it came. */
static uint64_t floor_compare(struct floor_broker *b, int fd) {
    uint8_t *data = pages(b->group);
    uint64_t slots = FLOOR_FILE / b->group, same = 0;
    for (uint64_t block = b->open > slots ? b->open - slots : 0; block < b->open; block++) {
        size_t padded = block_padded(b, block), used = b->blocks[block].used;
        if (pread(fd, data, padded, block_place(b, block)) != (ssize_t)padded) die("read");
        for (size_t at = 0; at < used;) {
            uint64_t from = b->blocks[block].start + at, f = from / b->frame;
            size_t skip = from % b->frame, n = b->frame - skip < used - at ? b->frame - skip : used - at;
            if (memcmp(data + at, b->kinds[b->kind_of[f]] + skip, n) != 0) die("what was written is not what was sent");
            at += n;
        }
        same += used;
    }
    free(data);
    return same;
}

static void floor_connect(struct floor_broker *b, struct tally *tally, pid_t *child) {
    int l = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    if (l < 0 || bind(l, (struct sockaddr *)&a, n) != 0 || listen(l, 2 * CONNECTIONS) != 0 ||
        getsockname(l, (struct sockaddr *)&a, &n) != 0)
        die("listen");
    fflush(stdout);
    *child = fork();
    if (*child < 0) die("fork");
    if (*child == 0) floor_clients(b, &a, tally);
    struct epoll_event e = {.events = EPOLLIN};
    b->epoll_fd = epoll_create1(0);
    if (b->epoll_fd < 0 || epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, b->ring->fd, &e) != 0) die("epoll");
    for (unsigned i = 0; i < 2 * CONNECTIONS; i++) {
        int s = accept(l, NULL, NULL);
        if (s < 0 || setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) die("accept");
        if (i < CONNECTIONS) {
            b->in[i].fd = s;
            e = (struct epoll_event){.events = EPOLLIN, .data.ptr = &b->in[i]};
        } else {
            b->out[i - CONNECTIONS] = (struct floor_out){.fd = s, .frame = i - CONNECTIONS};
            e = (struct epoll_event){.events = EPOLLOUT | EPOLLET, .data.ptr = &b->out[i - CONNECTIONS]};
        }
        if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, s, &e) != 0) die("epoll_ctl");
    }
    close(l);
}

/* Not in the child: the first write to a page that is shared with a child is a fault. */
static uint8_t *own_pages(size_t size, bool large) {
    void *p;
    size_t align = large ? LARGE_PAGE : ALIGN;
    size = (size + align - 1) / align * align;
    if (posix_memalign(&p, align, size) != 0) die("memory");
    if (madvise(p, size, MADV_DONTFORK) != 0) die("madvise");
    (void)madvise(p, size, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* there may be none */
    return memset(p, 'x', size);
}

static void floor_memory(struct floor_broker *b, struct floor_memory *m, bool large) {
    m->blocks = own_pages(b->held * b->group, large);
    for (unsigned i = 0; i < UPLOAD_DEPTH; i++) m->uploads[i] = own_pages(b->group, large);
    for (unsigned i = 0; i < CONNECTIONS; i++) m->in[i] = own_pages(b->frame, large);
}

static void floor_turn(const struct floor_broker *like, struct floor_memory *memory, const char *name, unsigned parts,
                       uint64_t bytes) {
    struct floor_broker b = *like;
    b.parts = parts;
    b.memory = memory;
    b.frames = bytes / (CONNECTIONS * b.frame) * CONNECTIONS;
    b.blocks = calloc(b.frames + bytes / b.group + 2, sizeof(*b.blocks));
    b.kind_of = calloc(b.frames, 1);
    b.from = calloc(b.frames, 1);
    b.block_of = calloc(b.frames, sizeof(*b.block_of));
    struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!b.blocks || !b.kind_of || !b.from || !b.block_of || tally == MAP_FAILED) die("memory");
    pid_t child;
    floor_connect(&b, tally, &child);
    double began_cpu = cpu(), began = seconds();
    floor_serve(&b);
    double used = cpu() - began_cpu, took = seconds() - began;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        close(b.in[i].fd);
        close(b.out[i].fd);
    }
    close(b.epoll_fd);
    struct rusage u;
    int status;
    if (wait4(child, &status, 0, &u) != child || status != 0) die("the clients");
    bytes = b.frames * b.frame;
    errno = 0;
    if (tally->received != bytes || tally->wrong) die("consumers did not get what was sent");
    uint64_t compared = parts & CHECKED ? floor_compare(&b, b.log_fd) + floor_compare(&b, b.upload_fd) : 0;
    double gb = (double)bytes / 1e9;
    printf("floor frame=%zu group=%zu parts=%s cpu=%.3f clients_cpu=%.3f gb_per_s=%.3f mean_group=%.0f compared=%llu\n",
           b.frame, b.group, name, used / gb / 2, cpu_of(&u) / gb / 2, gb / took, (double)bytes / (double)b.open,
           (unsigned long long)compared);
    fflush(stdout);
    munmap(tally, sizeof(*tally));
    free(b.blocks);
    free(b.kind_of);
    free(b.from);
    free(b.block_of);
}

static int floor_file(const char *name, int flags) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)FLOOR_FILE) != 0) die(name);
    uint8_t *data = pages(GROUP_MAX);
    for (size_t at = 0; at < FLOOR_FILE; at += GROUP_MAX) {
        if (pwrite(fd, data, GROUP_MAX, (off_t)at) != (ssize_t)GROUP_MAX) die("write");
    }
    free(data);
    close(fd);
    fd = open(name, O_RDWR | O_DIRECT | flags);
    if (fd < 0) die(name);
    (void)unlink(name);
    return fd;
}

static void floors(size_t frame, size_t group, uint64_t bytes, unsigned turns) {
    static const struct {
        const char *name;
        unsigned parts;
    } ways[] = {{"all", CRC | LOG | UPLOAD | UPLOAD_COPY},
                {"small-pages", CRC | LOG | UPLOAD | UPLOAD_COPY | SMALL_PAGES},
                {"no-crc", LOG | UPLOAD | UPLOAD_COPY},
                {"no-upload-copy", CRC | LOG | UPLOAD},
                {"no-upload", CRC | LOG},
                {"network", 0}};
    struct ring ring;
    ring_open(&ring);
    struct floor_broker b = {.frame = frame, .group = group, .held = HELD / group, .ring = &ring};
    struct floor_memory large, small;
    floor_memory(&b, &large, true);
    floor_memory(&b, &small, false);
    uint64_t random = 88172645463325252u; /* xorshift64 */
    for (unsigned i = 0; i < KINDS; i++) {
        b.kinds[i] = pages(frame);
        for (size_t k = 0; k + 8 <= frame; k += 8) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            memcpy(b.kinds[i] + k, &random, 8);
        }
        b.kind_crc[i] = crc32_iscsi(b.kinds[i], (int)frame, ~0u);
    }
    b.log_fd = floor_file("floor-log", O_DSYNC);
    b.upload_fd = floor_file("floor-upload", 0);
    floor_turn(&b, &large, "checked", ways[0].parts | CHECKED, bytes);
    for (unsigned turn = 0; turn < turns; turn++) {
        for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
            floor_turn(&b, ways[i].parts & SMALL_PAGES ? &small : &large, ways[i].name, ways[i].parts, bytes);
    }
}

int main(int argc, char **argv) {
    if (argc != 6 || chdir(argv[1]) != 0) die("usage: see the top of floor.c");
    size_t frame = strtoul(argv[2], NULL, 10), group = strtoul(argv[3], NULL, 10);
    if (frame < ALIGN || frame > FRAME_MAX || group < ALIGN || group % ALIGN != 0 || group > GROUP_MAX)
        die("usage: see the top of floor.c");
    floors(frame, group, strtoul(argv[4], NULL, 10) * 1000000, (unsigned)strtoul(argv[5], NULL, 10));
    return 0;
}
