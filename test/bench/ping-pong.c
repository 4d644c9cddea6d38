// Datagrams of 32 bytes between two network namespaces, to and fro in one thread: what a packet costs, and no wake-up.
// Arguments: namespace and IPv4 address of one end, the same of the other, round trips of each of 40 batches.
// Prints microseconds of a round trip in the fourth-fastest batch: others on the machine only add to it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCHES = 40, BYTES = 32, PORT = 7001 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address(const char *text) {
  struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  inet_pton(AF_INET, text, &found.sin_addr);
  return found;
}

static int end_in(const char *netns, struct sockaddr_in own) {
  int fd = open(netns, O_RDONLY);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) fail(netns);
  int end = socket(AF_INET, SOCK_DGRAM, 0);
  struct timeval patience = {.tv_sec = 1};
  setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (bind(end, (void *)&own, sizeof own) != 0) fail("bind");
  return end;
}

static void join(int end, struct sockaddr_in other) {
  if (connect(end, (void *)&other, sizeof other) != 0) fail("connect");
}

// Whom the other end is for this one: somebody on the way may have given it another address and port.
static void meet(int from, int to) {
  char byte = 0;
  struct sockaddr_in seen;
  socklen_t length = sizeof seen;
  if (send(from, &byte, 1, 0) < 0) fail("send");
  if (recvfrom(to, &byte, 1, 0, (void *)&seen, &length) < 0) fail("recv");
  join(to, seen);
}

static void cross(int from, int to) {
  char bytes[BYTES] = {0};
  if (send(from, bytes, sizeof bytes, 0) < 0) fail("send");
  if (recv(to, bytes, sizeof bytes, 0) < 0) fail("recv");
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

int main(int count, char **argument) {
  if (count != 6) return 2;
  struct sockaddr_in a = address(argument[2]), b = address(argument[4]);
  int here = end_in(argument[1], a);
  int there = end_in(argument[3], b);
  join(here, b);
  meet(here, there);
  int trips = atoi(argument[5]);
  double took[BATCHES];
  for (int k = 0; k < BATCHES; k++) {
    double begun = microseconds();
    for (int i = 0; i < trips; i++) {
      cross(here, there);
      cross(there, here);
    }
    took[k] = (microseconds() - begun) / trips;
  }
  qsort(took, BATCHES, sizeof took[0], ascending);
  printf("%.3f\n", took[3]);
  return 0;
}
