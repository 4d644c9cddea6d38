// TCP between two network namespaces in one thread, so that nothing waits for a processor: a connection with a byte to and fro
// and its end, and a byte to and fro on a connection that is there.
// Arguments: namespace of the client, IPv4 address that it dials, namespace and address of the server, times in each of 40
// batches. Prints microseconds of either in the fourth-fastest batch: others on the machine only add to it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 40, PORT = 7002 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address(const char *text) {
  struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  inet_pton(AF_INET, text, &found.sin_addr);
  return found;
}

static void enter(int netns) {
  if (setns(netns, CLONE_NEWNET) != 0) fail("setns");
}

static int netns(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) fail(path);
  return fd;
}

static void cross(int from, int to) {
  char byte = 0;
  if (send(from, &byte, 1, 0) != 1) fail("send");
  if (recv(to, &byte, 1, 0) != 1) fail("recv");
}

static double microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int listener;

/** What it dials, and the server's end of it. In the client's namespace. */
static int dial(struct sockaddr_in to, int *accepted) {
  struct linger none = {.l_onoff = 1};
  struct timeval patience = {.tv_sec = 5};
  int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  // Reset at the end: no port waits.
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&to, sizeof to) != 0) fail("connect");
  *accepted = accept(listener, NULL, NULL);
  if (*accepted < 0) fail("accept");
  setsockopt(*accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int main(int count, char **argument) {
  if (count != 6) return 2;
  int client = netns(argument[1]), server = netns(argument[3]), times = atoi(argument[5]), one = 1;
  struct sockaddr_in to = address(argument[2]), own = address(argument[4]);
  enter(server);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&own, sizeof own) != 0) fail("bind");
  if (listen(listener, 16) != 0) fail("listen");
  enter(client);
  double connects[BATCHES], trips[BATCHES];
  int there, here = dial(to, &there);
  for (int k = 0; k < BATCHES; k++) {
    double begun = microseconds();
    for (int i = 0; i < times; i++) {
      int accepted, fd = dial(to, &accepted);
      cross(fd, accepted);
      cross(accepted, fd);
      close(fd);
      close(accepted);
    }
    connects[k] = (microseconds() - begun) / times;
    begun = microseconds();
    for (int i = 0; i < times; i++) {
      cross(here, there);
      cross(there, here);
    }
    trips[k] = (microseconds() - begun) / times;
  }
  qsort(connects, BATCHES, sizeof connects[0], ascending);
  qsort(trips, BATCHES, sizeof trips[0], ascending);
  printf("%.3f %.3f\n", connects[3], trips[3]);
  return 0;
}
