/* A server of one connection at a time that waits in accept(2), for a program without a dynamic linker. It says which worker
 * answers, and finishes what it has at TERM. With an argument it misuses its listeners instead: "idle" never waits for a
 * client, "closed" closes them. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t leaves;

/* Again and again, since the first signal may come just before the wait that it has to end. */
static void leave(int signal)
{
    struct itimerval often = { { 0, 20000 }, { 0, 20000 } };
    if (signal == SIGTERM) {
        leaves = 1;
        setitimer(ITIMER_REAL, &often, NULL);
    }
}

static void serve(int client)
{
    char request[4096], body[256], answer[512];
    size_t have = 0;
    ssize_t more;
    while (have + 1 < sizeof request && (more = read(client, request + have, sizeof request - 1 - have)) != 0) {
        if (more > 0)
            have += (size_t)more;
        else if (!leaves)
            break;
        request[have] = 0;
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    int length = snprintf(body, sizeof body, "hello worker=%s/%s pid=%d\n", getenv("OSTLER_POOL"), getenv("OSTLER_WORKER"),
                          getpid());
    int total = snprintf(answer, sizeof answer,
                         "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", length, body);
    if (write(client, answer, (size_t)total) != total)
        perror("write");
    close(client);
}

int main(int count, char **words)
{
    struct sigaction action = { .sa_handler = leave };
    const char *given = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    if (!given || !pid || atoi(pid) != getpid() || atoi(given) < 1)
        return 2;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    if (count > 1 && !strcmp(words[1], "closed"))
        close(3);
    while (count > 1 && !leaves)
        pause();
    while (!leaves) {
        int client = accept(3, NULL, NULL);
        if (client >= 0)
            serve(client);
        else if (!leaves) {
            perror("accept");
            return 1;
        }
    }
    return 0;
}
