/* `resolve NAME...`: what musl's getaddrinfo(3) finds, a line for each. Built without musl's headers. */
struct addrinfo {
  int flags, family, socktype, protocol;
  unsigned length;
  void *address;
  char *name;
  struct addrinfo *next;
};
int getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);
const char *gai_strerror(int);
const char *inet_ntop(int, const void *, char *, unsigned);
int printf(const char *, ...);
int __libc_start_main(int (*)(int, char **), int, char **, void (*)(void), void (*)(void), void (*)(void));

int main(int count, char **arguments) {
  int failed = 0;
  for (int i = 1; i < count; i++) {
    struct addrinfo hints = {0, 0, 1}, *found = 0;
    int error = getaddrinfo(arguments[i], 0, &hints, &found);
    if (error) {
      printf("%s", gai_strerror(error));
      failed = 1;
    }
    for (; found; found = found->next) {
      char text[64];
      /* sin_addr is at 4, sin6_addr at 8; AF_INET is 2. */
      const char *address = (const char *)found->address + (found->family == 2 ? 4 : 8);
      printf("%s ", inet_ntop(found->family, address, text, sizeof text));
    }
    printf("\n");
  }
  return failed;
}

void start(long *stack) { __libc_start_main(main, *stack, (char **)(stack + 1), 0, 0, 0); }

/* The kernel's first stack pointer is the arguments' count; see musl's arch/x86_64/crt_arch.h. */
__asm__(".globl _start\n_start:\n xor %rbp,%rbp\n mov %rsp,%rdi\n and $-16,%rsp\n call start\n");
