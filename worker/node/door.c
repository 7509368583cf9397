/* What a worker needs of the kernel and Node does not offer: messages with descriptors, shared memory, and to be told of either.
 * Build it: cc -shared -fPIC -O2 -I/usr/include/node -o door.node worker/node/door.c */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <node_api.h>
#include <uv.h>

enum { MESSAGE_BYTES_MAX = 513 }; /* one more than the longest frame, so that a longer one shows itself; a ticket has 40 */

struct watch { uv_poll_t poll; napi_env env; napi_ref callback; };

static napi_value failed(napi_env env, const char *what) {
    char text[200];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    napi_throw_error(env, NULL, text);
    return NULL;
}

static void arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
    napi_get_cb_info(env, info, &count, values, NULL, NULL); /* those that are missing become undefined */
}

static int number(napi_env env, napi_value value) {
    int32_t it = -1;
    napi_get_value_int32(env, value, &it);
    return it;
}

static napi_value integer(napi_env env, int32_t it) {
    napi_value value;
    napi_create_int32(env, it, &value);
    return value;
}

/* own(fd): programs that this one starts don't get it. */
static napi_value own(napi_env env, napi_callback_info info) {
    napi_value argument;
    arguments(env, info, 1, &argument);
    if (fcntl(number(env, argument), F_SETFD, FD_CLOEXEC)) return failed(env, "cannot take over a descriptor of ostler's");
    return argument;
}

static void unmap(napi_env env, void *memory, void *bytes) {
    (void)env;
    munmap(memory, (size_t)bytes);
}

/* map(fd, writable): all of a memfd as an ArrayBuffer. The descriptor is closed. */
static napi_value map(napi_env env, napi_callback_info info) {
    napi_value given[2], buffer;
    bool writable = false;
    struct stat it;
    arguments(env, info, 2, given);
    napi_get_value_bool(env, given[1], &writable);
    int fd = number(env, given[0]), protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    if (fstat(fd, &it)) return failed(env, "cannot look at the shared memory");
    void *memory = mmap(NULL, (size_t)it.st_size, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return failed(env, "cannot map the shared memory");
    close(fd);
    if (napi_create_external_arraybuffer(env, memory, (size_t)it.st_size, unmap, (void *)it.st_size, &buffer) != napi_ok) {
        napi_throw_error(env, NULL, "this Node has no external array buffers");
        return NULL;
    }
    return buffer;
}

/* receive(fd, isPeek): null when nothing waits, else { bytes, fd }: no bytes are the end, and fd is -1 where none came along. */
static napi_value receive(napi_env env, napi_callback_info info) {
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } rights;
    char bytes[MESSAGE_BYTES_MAX];
    struct iovec into = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = CMSG_LEN(sizeof(int))};
    napi_value given[2], result, copy;
    bool peek = false;
    int fd = -1;
    arguments(env, info, 2, given);
    napi_get_value_bool(env, given[1], &peek);
    ssize_t length = recvmsg(number(env, given[0]), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (peek ? MSG_PEEK : 0));
    napi_get_null(env, &result);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return result;
    if (length < 0 && errno == ECONNRESET) length = 0; /* the other side went without reading all that we had sent */
    if (length < 0) return failed(env, "cannot receive");
    struct cmsghdr *header = length ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof fd)) memcpy(&fd, CMSG_DATA(header), sizeof fd);
    napi_create_object(env, &result);
    napi_create_buffer_copy(env, (size_t)length, bytes, NULL, &copy);
    napi_set_named_property(env, result, "bytes", copy);
    napi_set_named_property(env, result, "fd", integer(env, fd));
    return result;
}

/* send(fd, bytes): one message; whoever is gone does not get it. */
static napi_value send_message(napi_env env, napi_callback_info info) {
    napi_value given[2];
    void *bytes = NULL;
    size_t length = 0;
    arguments(env, info, 2, given);
    napi_get_buffer_info(env, given[1], &bytes, &length);
    send(number(env, given[0]), bytes, length, MSG_NOSIGNAL);
    return NULL;
}

/* endReading(fd) */
static napi_value end_reading(napi_env env, napi_callback_info info) {
    napi_value argument;
    arguments(env, info, 1, &argument);
    shutdown(number(env, argument), SHUT_RD);
    return NULL;
}

static void stirred(uv_poll_t *poll, int status, int events) {
    struct watch *it = poll->data;
    napi_handle_scope scope;
    napi_value callback, receiver;
    (void)status, (void)events;
    napi_open_handle_scope(it->env, &scope);
    napi_get_reference_value(it->env, it->callback, &callback);
    napi_get_global(it->env, &receiver);
    if (napi_make_callback(it->env, NULL, receiver, callback, 0, NULL, NULL) == napi_pending_exception) {
        napi_value problem;
        napi_get_and_clear_last_exception(it->env, &problem);
        napi_fatal_exception(it->env, problem);
    }
    napi_close_handle_scope(it->env, scope);
}

/* watch(fd, callback): a watch that is off. libuv would make the socket non-blocking, which is the supervisor's too: so what it gets is
 * an epoll descriptor in which the socket lies. */
static napi_value watch(napi_env env, napi_callback_info info) {
    napi_value given[2], result;
    uv_loop_t *loop;
    struct watch *it = calloc(1, sizeof *it); /* for the life of the process */
    int within = epoll_create1(EPOLL_CLOEXEC);
    arguments(env, info, 2, given);
    if (!it || within < 0) return failed(env, "cannot watch");
    struct epoll_event readable = {.events = EPOLLIN};
    if (epoll_ctl(within, EPOLL_CTL_ADD, number(env, given[0]), &readable)) return failed(env, "cannot watch");
    it->env = env;
    it->poll.data = it;
    napi_create_reference(env, given[1], 1, &it->callback);
    napi_get_uv_event_loop(env, &loop);
    uv_poll_init(loop, &it->poll, within);
    napi_create_external(env, it, NULL, NULL, &result);
    return result;
}

/* listen(watch, isOn) */
static napi_value listen_to(napi_env env, napi_callback_info info) {
    napi_value given[2];
    void *it = NULL;
    bool on = false;
    arguments(env, info, 2, given);
    napi_get_value_external(env, given[0], &it);
    napi_get_value_bool(env, given[1], &on);
    if (on) uv_poll_start(&((struct watch *)it)->poll, UV_READABLE, stirred);
    else uv_poll_stop(&((struct watch *)it)->poll);
    return NULL;
}

NAPI_MODULE_INIT() {
    napi_property_descriptor all[] = {
        {"own", NULL, own, NULL, NULL, NULL, napi_default, NULL},
        {"map", NULL, map, NULL, NULL, NULL, napi_default, NULL},
        {"receive", NULL, receive, NULL, NULL, NULL, napi_default, NULL},
        {"send", NULL, send_message, NULL, NULL, NULL, napi_default, NULL},
        {"endReading", NULL, end_reading, NULL, NULL, NULL, napi_default, NULL},
        {"watch", NULL, watch, NULL, NULL, NULL, napi_default, NULL},
        {"listen", NULL, listen_to, NULL, NULL, NULL, napi_default, NULL},
    };
    napi_define_properties(env, exports, sizeof all / sizeof *all, all);
    return exports;
}
