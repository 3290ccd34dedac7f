// SPDX-License-Identifier: Apache-2.0
//
// An echo server with epoll by hand, level-triggered, as many are written in C: one table of connections,
// interest kept per connection, timers, a cached "ready" flag, an upstream. It has one defect, named by its
// argument with a class of the spin catalogue, at the place where such a defect really sits; each place has
// a comment "defect". A client meets the defect with a request that begins with '!'; all others are served
// well, in the same loop.
//
// On standard output it says one line of JSON when it listens, and one when it has begun to spin: the class
// and who the culprit is. It ends with its parent, and after two minutes at the latest.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	LONGEST_LIFE_S = 120,
	MOST_CONNECTIONS = 256,
	MOST_EVENTS = 64,
	BUFFER_BYTES = 4096,
	FEW_FILES = 24,	     // F5: the limit that is soon reached
	TIMER_NS = 20000000, // T1: the delay after which the timer is due
	READ_PAUSE_NS = 5000000, // F7: the thread that may act takes its time
};

// A connection. The epoll data is its address: nobody can guess the descriptor from it.
struct connection {
	int fd; // -1 when closed
	uint32_t interest;
	bool listens;
	bool culprit;	  // met the defect
	bool paused;	  // nobody reads from it now
	bool ready;	  // cached: a read may find something
	bool eof;	  // the peer has ended
	bool upstream;	  // a connection that we try to make
	struct sockaddr_in local, peer;
	uint64_t deadline_ns; // 0: no timer
	char output[BUFFER_BYTES];
	size_t pending; // bytes in output
};

// A loop: a thread with an epoll set. Only F7 has several threads on one set, only B1 and B2 several sets.
struct loop {
	int epoll_fd;
	int index;
};

static const char *defect;
static struct connection table[MOST_CONNECTIONS];
static struct connection *listener, *client_of_upstream;
static struct sockaddr_in listen_address, upstream_address;
static struct loop loops[3];
static atomic_bool table_lock, table_locked;

static bool has(const char *class)
{
	return strcmp(defect, class) == 0;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static const char *print_address(const struct sockaddr_in *a, char *text, size_t size)
{
	snprintf(text, size, "%s:%d", inet_ntoa(a->sin_addr), ntohs(a->sin_port));
	return text;
}

// announce says who the culprit is, once.
static void announce(const struct connection *c, const char *function)
{
	static atomic_flag said;
	char text[3][64];

	if (atomic_flag_test_and_set(&said))
		return;
	printf("{\"class\":\"%s\",\"fd\":%d,\"tid\":%d,\"listener\":\"%s\"", defect, c->fd, gettid(),
	       print_address(&listen_address, text[0], sizeof(text[0])));
	if (!c->listens)
		printf(",\"local\":\"%s\",\"peer\":\"%s\"", print_address(&c->local, text[1], sizeof(text[1])),
		       print_address(&c->peer, text[2], sizeof(text[2])));
	if (has("C1"))
		printf(",\"destination\":\"%s\"",
		       print_address(&upstream_address, text[0], sizeof(text[0])));
	if (function)
		printf(",\"function\":\"%s\"", function);
	printf("}\n");
	fflush(stdout);
}

static void control(struct loop *l, int operation, struct connection *c, uint32_t interest)
{
	struct epoll_event e = {.events = interest, .data.ptr = c};

	if (epoll_ctl(l->epoll_fd, operation, c->fd, &e) < 0)
		die("epoll_ctl");
	c->interest = interest;
}

// want changes the interest in a connection when it is another.
static void want(struct loop *l, struct connection *c, uint32_t interest)
{
	if (interest != c->interest)
		control(l, EPOLL_CTL_MOD, c, interest);
}

static struct connection *new_connection(int fd)
{
	for (int i = 0; i < MOST_CONNECTIONS; i++) {
		struct connection *c = &table[i];

		if (c->fd >= 0 || c->culprit)
			continue;
		memset(c, 0, sizeof(*c));
		c->fd = fd;
		getsockname(fd, (struct sockaddr *)&c->local, &(socklen_t){sizeof(c->local)});
		getpeername(fd, (struct sockaddr *)&c->peer, &(socklen_t){sizeof(c->peer)});
		return c;
	}
	fprintf(stderr, "the table of connections is full\n");
	exit(1);
}

static void shut(struct loop *l, struct connection *c)
{
	control(l, EPOLL_CTL_DEL, c, 0);
	close(c->fd);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	want(l, listener, EPOLLIN);
}

static void accept_all(struct loop *l)
{
	for (;;) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			control(l, EPOLL_CTL_ADD, new_connection(fd), EPOLLIN | EPOLLRDHUP);
			continue;
		}
		if (errno == EMFILE && !has("F5"))
			want(l, listener, 0);
		if (errno == EMFILE && has("F5"))
			announce(listener, NULL); // defect F5: the listener stays armed
		return;
	}
}

// flush sends what waits to be sent.
static void flush(struct loop *l, struct connection *c)
{
	ssize_t n = c->pending > 0 ? send(c->fd, c->output, c->pending, MSG_NOSIGNAL) : 0;

	if (n > 0) {
		c->pending -= (size_t)n;
		memmove(c->output, c->output + n, c->pending);
	}
	if (c->pending == 0 && has("F1") && c->culprit)
		announce(c, NULL); // defect F1: nothing is left to send, the interest stays
	else if (c->pending == 0)
		want(l, c, c->interest & ~EPOLLOUT);
}

// scan_field looks for the end of a field. It keeps its name (noipa): no copy of it is made for one caller.
__attribute__((noipa)) static size_t scan_field(const volatile char *text)
{
	size_t at = 0;

	while (text[at] != '\n') // defect B1: it never advances
		__asm__ volatile("" ::: "memory");
	return at;
}

__attribute__((noipa)) static void take_table_lock(void)
{
	while (atomic_exchange(&table_lock, true))
		sched_yield(); // defect B2: the holder sleeps
}

// keep_table_lock is a thread that sleeps with the lock in its hands.
static void *keep_table_lock(void *unused)
{
	take_table_lock();
	atomic_store(&table_locked, true);
	for (;;)
		pause();
	return unused;
}

// upstream_failed tries again.
static void upstream_failed(void)
{
	announce(client_of_upstream, NULL);
	client_of_upstream->deadline_ns = now_ns(); // defect C1: no delay before the next attempt
}

static void connect_upstream(struct loop *l, struct connection *client)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	client->deadline_ns = 0;
	client_of_upstream = client;
	if (connect(fd, (struct sockaddr *)&upstream_address, sizeof(upstream_address)) == 0)
		die("the upstream is there");
	if (errno == EINPROGRESS) {
		struct connection *c = new_connection(fd);

		c->upstream = true;
		control(l, EPOLL_CTL_ADD, c, EPOLLOUT);
		return;
	}
	close(fd);
	upstream_failed();
}

// upstream_answers is an event on a connection that was being made.
static void upstream_answers(struct loop *l, struct connection *c)
{
	int error = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof(error)});
	if (error != ECONNREFUSED)
		die("the upstream is there");
	shut(l, c);
	upstream_failed();
}

// hand_over gives a connection to another loop.
static void hand_over(struct loop *from, struct connection *c, struct loop *to)
{
	control(from, EPOLL_CTL_DEL, c, 0);
	control(to, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLRDHUP);
}

// meet is what happens to the connection of which the defect makes a culprit.
static void meet(struct loop *l, struct connection *c)
{
	c->culprit = true;
	if (has("T1") || has("C1"))
		c->deadline_ns = now_ns() + TIMER_NS;
	if (has("F2") || has("F4") || has("F8"))
		c->paused = true;
	if (has("F2"))
		announce(c, NULL); // defect F2: the interest in reading stays
	if (has("F4"))
		want(l, c, 0); // defect F4: an empty mask does not keep ERR and HUP away
	if (has("F8"))
		want(l, c, EPOLLIN | EPOLLONESHOT);
	if (has("F6")) {
		announce(c, NULL);
		if (dup(c->fd) < 0) // somebody keeps a copy: a child, a log, another thread
			die("dup");
		close(c->fd); // defect F6: without EPOLL_CTL_DEL
		c->fd = -1;
	}
	if (has("B1") || has("B2"))
		hand_over(l, c, &loops[1]);
}

static void serve_again(struct connection *c)
{
	static const char field[] = "name: value";

	if (has("B1")) {
		announce(c, "scan_field");
		scan_field(field);
	}
	if (has("B2")) {
		announce(c, "take_table_lock");
		take_table_lock();
	}
}

// receive reads once and sends back what it got.
static void receive(struct loop *l, struct connection *c)
{
	char input[BUFFER_BYTES];
	size_t room = has("F7") && c->culprit ? 1 : sizeof(input) - c->pending;
	ssize_t n = recv(c->fd, input, room, 0);

	if (n < 0 && errno == EAGAIN) {
		if (has("T6") && c->culprit)
			announce(c, NULL); // defect T6: the cached flag stays
		else
			c->ready = false;
		return;
	}
	if (n == 0 && has("F3") && c->culprit) {
		c->ready = false;
		if (c->eof)
			announce(c, NULL);
		c->eof = true; // defect F3: noted, and the interest stays
		return;
	}
	if (n <= 0) {
		shut(l, c);
		return;
	}
	if (!(has("T6") && c->culprit))
		c->ready = (size_t)n == room;
	if (has("F7") && c->culprit)
		return;
	if (c->culprit)
		serve_again(c);
	memcpy(c->output + c->pending, input, (size_t)n);
	c->pending += (size_t)n;
	want(l, c, c->interest | EPOLLOUT);
	bool meets = input[0] == '!' && !c->culprit;
	if (meets && has("F1"))
		c->culprit = true;
	flush(l, c);
	if (meets && !has("F1"))
		meet(l, c);
}

// handle is one event.
static void handle(struct loop *l, struct connection *c, uint32_t events)
{
	if (c->listens) {
		accept_all(l);
		return;
	}
	if (c->fd < 0)
		return; // nothing known of it any more
	if (c->upstream) {
		upstream_answers(l, c);
		return;
	}
	if (c->paused) {
		if (has("F4") && events & (EPOLLERR | EPOLLHUP))
			announce(c, NULL);
		if (has("F8")) {
			announce(c, NULL);
			control(l, EPOLL_CTL_MOD, c, c->interest); // defect F8: nothing was consumed
		}
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP)) {
		shut(l, c);
		return;
	}
	if (events & EPOLLOUT)
		flush(l, c);
	if (events & (EPOLLIN | EPOLLRDHUP))
		c->ready = true;
}

// handle_shared is one event of a set that all threads wait on. Any of them may serve any connection, but
// the culprit belongs to the first one, which takes its time.
static void handle_shared(struct loop *l, struct connection *c, uint32_t events)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	if (c->culprit && l->index != 0) {
		announce(c, NULL); // defect F7: nothing keeps the event from coming again
		return;
	}
	if (c->culprit)
		nanosleep(&(struct timespec){.tv_nsec = READ_PAUSE_NS}, NULL);
	pthread_mutex_lock(&mutex);
	handle(l, c, events);
	if (c->fd >= 0 && c->ready)
		receive(l, c);
	pthread_mutex_unlock(&mutex);
}

// run_due runs what is due and returns for how long the loop may sleep.
static int run_due(struct loop *l)
{
	int timeout = -1;

	for (struct connection *c = table; c < table + MOST_CONNECTIONS; c++) {
		uint64_t now;

		if (c->fd < 0)
			continue;
		if (c->ready)
			receive(l, c);
		if (c->fd < 0)
			continue;
		now = now_ns();
		if (c->deadline_ns && c->deadline_ns <= now) {
			if (has("C1"))
				connect_upstream(l, c);
			else
				announce(c, NULL); // defect T1: the deadline stays
		}
		if (c->ready || (c->deadline_ns && c->deadline_ns <= now_ns()))
			timeout = 0;
		else if (c->deadline_ns && timeout < 0)
			timeout = (int)((c->deadline_ns - now) / 1000000 + 1);
	}
	return timeout;
}

// run_loop is a thread. The first one serves what is due; the others, and those that share a set, only what
// their events bring.
static void *run_loop(void *argument)
{
	struct loop *l = argument;
	struct epoll_event events[MOST_EVENTS];

	for (;;) {
		int timeout = l->index == 0 && !has("F7") ? run_due(l) : -1;
		int n = epoll_wait(l->epoll_fd, events, MOST_EVENTS, timeout);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;

			if (has("F7"))
				handle_shared(l, c, events[i].events);
			else
				handle(l, c, events[i].events);
			if (l->index > 0 && !has("F7") && c->ready)
				receive(l, c);
		}
	}
	return NULL;
}

static void start_listening(void)
{
	socklen_t size = sizeof(listen_address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char text[64];

	listen_address.sin_family = AF_INET;
	listen_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&listen_address, size) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&listen_address, &size) < 0)
		die("listening");
	listener = new_connection(fd);
	listener->listens = true;
	control(&loops[0], EPOLL_CTL_ADD, listener, EPOLLIN);
	printf("{\"listener\":\"%s\"}\n", print_address(&listen_address, text, sizeof(text)));
	fflush(stdout);
}

static void start_thread(void *(*run)(void *), void *argument)
{
	pthread_t t;

	if (pthread_create(&t, NULL, run, argument) != 0)
		die("pthread_create");
}

int main(int argc, char **argv)
{
	struct rlimit few = {FEW_FILES, FEW_FILES};

	if (argc != 3) {
		fprintf(stderr, "usage: %s CLASS PORT-OF-THE-UPSTREAM\n", argv[0]);
		return 2;
	}
	defect = argv[1];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LONGEST_LIFE_S);
	upstream_address.sin_family = AF_INET;
	upstream_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	upstream_address.sin_port = htons((uint16_t)atoi(argv[2]));
	if (has("F5") && setrlimit(RLIMIT_NOFILE, &few) < 0)
		die("setrlimit");
	for (int i = 0; i < MOST_CONNECTIONS; i++)
		table[i].fd = -1;
	for (int i = 0; i < 3; i++) {
		loops[i].index = i;
		loops[i].epoll_fd = i > 0 && has("F7") ? loops[0].epoll_fd : epoll_create1(EPOLL_CLOEXEC);
		if (loops[i].epoll_fd < 0)
			die("epoll_create1");
	}
	start_listening();
	if (has("F7") || has("B1") || has("B2"))
		start_thread(run_loop, &loops[1]);
	if (has("F7"))
		start_thread(run_loop, &loops[2]);
	if (has("B2")) {
		start_thread(keep_table_lock, NULL);
		while (!atomic_load(&table_locked))
			sched_yield();
	}
	run_loop(&loops[0]);
	return 0;
}
