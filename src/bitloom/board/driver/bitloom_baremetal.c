/* Back end without an operating system, for the vendor's standalone library: polls, and keeps the buffer at a fixed
 * address that the linker script leaves free. Set the three figures for your board when you compile. */
#include <string.h>
#include <xil_cache.h>
#include <xtime_l.h>

#include "bitloom.h"

#ifndef BITLOOM_REGISTERS
#define BITLOOM_REGISTERS 0xA0000000u
#endif
#ifndef BITLOOM_MEMORY
#define BITLOOM_MEMORY 0x40000000u
#endif
#ifndef BITLOOM_MEMORY_BYTES
#define BITLOOM_MEMORY_BYTES 0x10000000u
#endif

static volatile uint32_t *at(uint32_t offset) { return (volatile uint32_t *)((uintptr_t)BITLOOM_REGISTERS + offset); }

static uint32_t read32(void *context, uint32_t offset) {
  (void)context;
  return *at(offset);
}

static void write32(void *context, uint32_t offset, uint32_t value) {
  (void)context;
  *at(offset) = value;
}

static uint64_t time_us(void *context) {
  XTime ticks = 0;
  (void)context;
  XTime_GetTime(&ticks);
  return ticks / (COUNTS_PER_SECOND / 1000000u);
}

static void to_device(void *context, uint64_t offset, uint64_t bytes) {
  (void)context;
  Xil_DCacheFlushRange((INTPTR)(BITLOOM_MEMORY + offset), (INTPTR)bytes);
}

static void from_device(void *context, uint64_t offset, uint64_t bytes) {
  (void)context;
  Xil_DCacheInvalidateRange((INTPTR)(BITLOOM_MEMORY + offset), (INTPTR)bytes);
}

int bitloom_backend_open(struct bitloom_hw *hw, const char *where, struct bitloom_error *error) {
  (void)where;
  memset(error, 0, sizeof *error);
  memset(hw, 0, sizeof *hw);
  hw->read32 = read32;
  hw->write32 = write32;
  hw->time_us = time_us;
  hw->to_device = to_device;
  hw->from_device = from_device;
  hw->memory = (uint8_t *)(uintptr_t)BITLOOM_MEMORY;
  hw->physical = BITLOOM_MEMORY;
  hw->bytes = BITLOOM_MEMORY_BYTES;
  return BITLOOM_OK;
}

void bitloom_backend_close(struct bitloom_hw *hw) { memset(hw, 0, sizeof *hw); }
