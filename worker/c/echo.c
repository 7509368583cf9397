/* A worker without a library: sends back what it gets, many connections in one loop. Written from docs/protocol.md.
 * Try it: cc -O2 -o echo worker/c/echo.c && ostler run --listen unix:echo.sock --concurrency 64 -- ./echo */
#define _GNU_SOURCE
#include <err.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAILBOX = 3, TICKET_BYTES = 40, FRAME_BYTES_MAX = 512, PLACES_MAX = 1024, STARVED_MAX_MS = 1000, STARVED_RETRY_MS = 20,
       DEADLINE_LOOK_MS = 100 };
enum { LAYOUT = 0, CAPACITY = 1, CONSUMED = 16, WAITING = 17, HEARTBEAT = 0, BEATS = 3, PUBLISHED = 16, RECORDS = 32 }; /* words */
enum { DONE = 0, TRUNCATED = 2, BEATS_ALWAYS = 2, EXIT_UNFINISHED = 75 };

struct ticket { uint16_t version; uint8_t family, flags; uint32_t listener; uint64_t id, accepted_at; uint32_t peer[3], zero, more; };
static struct connection { int fd, ended; uint64_t id, claimed_at; size_t have, sent; char bytes[4096]; } places[PLACES_MAX];
static enum { SERVING, LEAVING, ORPHANED } stage;
static int control, doorbell, null, reserve[2] = {-1, -1}, mailbox_ended;
static uint64_t concurrency, held, drain_timeout_ms, heartbeat_ms, capacity, written, deadline, starving_since;
static _Atomic uint64_t *region, *gauges; /* ours, the supervisor's */

static uint64_t now(void) {
    struct timespec at = {0};
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static int fd_named(const char *name) {
    const char *fds = getenv("OSTLER_FDS");
    for (size_t length = strlen(name); fds; fds = strchr(fds, ',') ? strchr(fds, ',') + 1 : NULL)
        if (!strncmp(fds, name, length) && fds[length] == ':') return atoi(fds + length + 1);
    errx(1, "not started by ostler: try `ostler run --listen unix:echo.sock -- ./echo` (OSTLER_FDS has no %s)", name);
}

static void *map(const char *name, int protection) {
    struct stat it;
    int fd = fd_named(name);
    void *memory = fstat(fd, &it) ? MAP_FAILED : mmap(NULL, (size_t)it.st_size, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) err(1, "cannot map %s", name);
    close(fd);
    return memory;
}

static uint64_t varint(const uint8_t **at, const uint8_t *frame_end) { /* moves *at behind it */
    uint64_t number = 0;
    for (int shift = 0; *at < frame_end && shift < 64; shift += 7, (*at)++) {
        number |= (uint64_t)(**at & 0x7f) << shift;
        if (**at < 0x80) return (*at)++, number;
    }
    errx(1, "a frame that does not decode");
}

static void leave(void) { /* as after TERM */
    if (stage != SERVING) return;
    stage = LEAVING;
    send(control, "\1\2", 2, MSG_NOSIGNAL); /* Draining */
    shutdown(MAILBOX, SHUT_RD);
}

static void fill_reserve(void) {
    for (int i = 0; i < 2; i++) reserve[i] = reserve[i] < 0 ? fcntl(null, F_DUPFD_CLOEXEC, MAILBOX) : reserve[i];
}

static void report(uint64_t id, uint64_t claimed_at, uint64_t outcome) {
    uint64_t record[4] = {id, claimed_at, now(), outcome};
    for (int i = 0; i < 4; i++) region[RECORDS + 4 * (written & (capacity - 1)) + i] = record[i];
    region[PUBLISHED] = ++written;
    atomic_thread_fence(memory_order_seq_cst);
    if (gauges[WAITING]) eventfd_write(doorbell, 1); /* EAGAIN: it has been rung */
}

/* The length of the message: 0 at the end, -1 when nothing waits. *fd is -1 where no descriptor came along. */
static ssize_t receive(struct ticket *ticket, int *fd, int flags) {
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } rights;
    struct iovec bytes = {ticket, TICKET_BYTES + 1}; /* a longer message shows itself */
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t length = recvmsg(MAILBOX, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    *fd = -1;
    if (header && header->cmsg_len == CMSG_LEN(sizeof(int))) memcpy(fd, CMSG_DATA(header), sizeof(int));
    if (length < 0 && errno != EAGAIN && errno != EINTR) err(1, "cannot read the mailbox");
    if (length > 0 && (length != TICKET_BYTES || le16toh(ticket->version) != 1)) errx(1, "a message that is no connection");
    return length;
}

static void claim(void) {
    struct ticket seen, taken;
    int copy, fd;
    ssize_t length = receive(&seen, &copy, MSG_PEEK);
    mailbox_ended = length == 0;
    for (int i = 0; i < 2 && length > 0; i++) close(reserve[i]), reserve[i] = -1; /* room for the copy and for what is taken */
    if (length > 0 && copy < 0) length = receive(&seen, &copy, MSG_PEEK);
    if (length > 0 && copy < 0) {
        if (!starving_since) starving_since = now();
        if (now() - starving_since > STARVED_MAX_MS * 1000000ull && stage == SERVING) leave();
    } else if (length > 0) {
        starving_since = 0;
        length = receive(&taken, &fd, 0);
        int same = length > 0 && seen.id == taken.id;
        if (!same || fd >= 0) close(same ? fd : copy); /* of the same connection one descriptor is enough */
        if (same) fd = copy;
        if (length > 0 && fd < 0) report(le64toh(taken.id), now(), TRUNCATED);
        struct connection *it = places;
        while (it->fd >= 0) it++;
        if (length > 0 && fd >= 0) *it = (struct connection){.fd = fd, .id = le64toh(taken.id), .claimed_at = now()}, held++;
    }
    fill_reserve();
}

static void echo(struct connection *it) {
    ssize_t count = it->have ? 0 : recv(it->fd, it->bytes, sizeof it->bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (!it->have) it->ended = count <= 0;
    if (count > 0) it->have = (size_t)count;
    for (; it->sent < it->have && !it->ended; it->sent += (size_t)count) {
        count = send(it->fd, it->bytes + it->sent, it->have - it->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        it->ended = count < 0; /* the client has gone */
    }
    it->have = it->sent = 0;
    if (!it->ended) return;
    close(it->fd); /* first this, then the report */
    it->fd = -1;
    held--;
    report(it->id, it->claimed_at, DONE);
    fill_reserve();
}

/* Hears one frame: Welcome, Drain or Ping. */
static void hear(void) {
    uint8_t frame[FRAME_BYTES_MAX + 1];
    ssize_t length = recv(control, frame, sizeof frame, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length <= 0) { /* the supervisor is gone */
        dup2(null, 1), dup2(null, 2); /* first: a print into a broken pipe fails */
        stage = ORPHANED;
        deadline = now() + drain_timeout_ms * 1000000;
    } else if (length > 1 && frame[0] == 1 && frame[1] == 0) {
        const uint8_t *at = frame + 2, *ends = frame + length;
        if (varint(&at, ends) != 1) errx(1, "the supervisor speaks another protocol");
        concurrency = varint(&at, ends), drain_timeout_ms = varint(&at, ends), heartbeat_ms = varint(&at, ends);
    } else if (length > 2 && frame[0] == 1 && frame[1] == 2) { /* the nonce goes back as it came */
        frame[1] = 3;
        send(control, frame, (size_t)length, MSG_NOSIGNAL);
    } /* Drain: the mailbox says it too */
}

int main(void) {
    sigset_t blocked, term; /* nobody reads those that are blocked, but for TERM */
    sigfillset(&blocked), sigdelset(&blocked, SIGABRT);
    sigemptyset(&term), sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    int terminated = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    control = fd_named("control"), doorbell = fd_named("doorbell");
    region = map("region", PROT_READ | PROT_WRITE);
    gauges = map("gauges", PROT_READ);
    capacity = gauges[CAPACITY];
    if (gauges[LAYOUT] != 0x6f73746c65720001) errx(1, "a layout that this worker does not know");
    for (int fd = MAILBOX; fd <= doorbell; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fill_reserve();
    send(control, "\1\0\1\4echo", 8, MSG_NOSIGNAL); /* Hello */
    while (!concurrency && stage == SERVING) { poll(&(struct pollfd){control, POLLIN, 0}, 1, -1); hear(); }
    if (concurrency > PLACES_MAX) errx(1, "at most %d connections fit: lower `concurrency`", PLACES_MAX);
    for (uint64_t i = 0; i < concurrency; i++) places[i].fd = -1;
    region[HEARTBEAT] = now();
    region[BEATS] = heartbeat_ms ? BEATS_ALWAYS : 0;
    send(control, "\1\1", 2, MSG_NOSIGNAL); /* Ready */

    while (held || !(mailbox_ended || stage == LEAVING)) {
        struct pollfd all[3 + PLACES_MAX] = {{stage == ORPHANED ? -1 : control, POLLIN, 0}, {terminated, POLLIN, 0}};
        int claims = held < concurrency && !mailbox_ended && stage != LEAVING;
        all[2] = (struct pollfd){claims && !starving_since ? MAILBOX : -1, POLLIN, 0};
        for (uint64_t i = 0; i < concurrency; i++)
            all[3 + i] = (struct pollfd){places[i].fd, places[i].have ? POLLOUT : POLLIN, 0}; /* -1 is passed over */
        int beat_ms = heartbeat_ms ? (int)(heartbeat_ms / 4 + 1) : -1; /* of an orphan: look at the deadline */
        poll(all, 3 + concurrency, starving_since ? STARVED_RETRY_MS : stage == ORPHANED ? DEADLINE_LOOK_MS : beat_ms);
        if (stage == ORPHANED && now() > deadline) _exit(EXIT_UNFINISHED);
        region[HEARTBEAT] = now();
        if (all[1].revents && read(terminated, &(struct signalfd_siginfo){0}, sizeof(struct signalfd_siginfo)) > 0) leave();
        if (stage != ORPHANED && all[0].revents) hear();
        if (claims && stage != LEAVING && (all[2].revents || starving_since)) claim();
        for (uint64_t i = 0; i < concurrency; i++)
            if (places[i].fd >= 0 && all[3 + i].fd == places[i].fd && all[3 + i].revents) echo(&places[i]);
    }
    return 0;
}
