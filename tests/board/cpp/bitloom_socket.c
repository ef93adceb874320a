/* Back end for the tests: the simulated accelerator of server.cpp behind a Unix socket.
 * where: "[poll:]SOCKET,BYTES". The buffer is the client's own; only to_device and from_device move bytes, so that a
 * forgotten flush or invalidate shows. A microsecond is 300 cycles. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bitloom.h"

struct socket_hw {
  int file;
};

static void gone(void) {
  fprintf(stderr, "the simulator is gone\n");
  exit(99);
}

static void send_all(const struct socket_hw *hw, const void *from, size_t bytes) {
  for (const uint8_t *at = from; bytes > 0;) {
    const ssize_t sent = write(hw->file, at, bytes);
    if (sent <= 0) gone();
    at += sent;
    bytes -= (size_t)sent;
  }
}

static void receive(const struct socket_hw *hw, void *to, size_t bytes) {
  for (uint8_t *at = to; bytes > 0;) {
    const ssize_t got = read(hw->file, at, bytes);
    if (got <= 0) gone();
    at += got;
    bytes -= (size_t)got;
  }
}

static uint32_t read32(void *context, uint32_t offset) {
  uint32_t value = 0;
  send_all(context, "r", 1);
  send_all(context, &offset, sizeof offset);
  receive(context, &value, sizeof value);
  return value;
}

static void write32(void *context, uint32_t offset, uint32_t value) {
  char answer;
  const uint32_t words[2] = {offset, value};
  send_all(context, "w", 1);
  send_all(context, words, sizeof words);
  receive(context, &answer, 1);
}

static uint64_t time_us(void *context) {
  uint64_t cycles = 0;
  send_all(context, "t", 1);
  receive(context, &cycles, sizeof cycles);
  return cycles / 300;
}

static int wait_interrupt(void *context, uint64_t timeout_us) {
  const uint64_t cycles = timeout_us * 300;
  char answer = '0';
  send_all(context, "i", 1);
  send_all(context, &cycles, sizeof cycles);
  receive(context, &answer, 1);
  return answer == '1';
}

static uint8_t *memory_of; /* one device at a time is enough */

static void to_device(void *context, uint64_t offset, uint64_t bytes) {
  const uint64_t words[2] = {offset, bytes};
  char answer;
  send_all(context, "d", 1);
  send_all(context, words, sizeof words);
  send_all(context, memory_of + offset, bytes);
  receive(context, &answer, 1);
}

static void from_device(void *context, uint64_t offset, uint64_t bytes) {
  const uint64_t words[2] = {offset, bytes};
  send_all(context, "f", 1);
  send_all(context, words, sizeof words);
  receive(context, memory_of + offset, bytes);
}

int bitloom_backend_open(struct bitloom_hw *hw, const char *where, struct bitloom_error *error) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct socket_hw *own = calloc(1, sizeof *own);
  const bool polling = strncmp(where, "poll:", 5) == 0;
  if (polling) where += 5;
  const char *comma = strchr(where, ',');
  memset(error, 0, sizeof *error);
  memset(hw, 0, sizeof *hw);
  memcpy(address.sun_path, where, (size_t)(comma - where));
  own->file = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(own->file, (struct sockaddr *)&address, sizeof address) != 0) {
    close(own->file);
    free(own);
    return bitloom_fail(error, BITLOOM_E_SYSTEM, "no simulator listens at %s", address.sun_path);
  }
  hw->context = own;
  hw->read32 = read32;
  hw->write32 = write32;
  hw->time_us = time_us;
  hw->wait = polling ? NULL : wait_interrupt;
  hw->to_device = to_device;
  hw->from_device = from_device;
  hw->bytes = strtoull(comma + 1, NULL, 10);
  hw->physical = 0x480000000u;
  hw->memory = memory_of = malloc(hw->bytes);
  memset(hw->memory, 0x80, hw->bytes);
  return BITLOOM_OK;
}

void bitloom_backend_close(struct bitloom_hw *hw) {
  struct socket_hw *own = hw->context;
  if (own == NULL) return;
  close(own->file);
  free(own);
  free(hw->memory);
  hw->context = NULL;
}
