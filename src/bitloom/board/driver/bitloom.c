/* The device: load a program, run it, read results and counters. */
#include "bitloom.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CTRL_START = 1, CTRL_DONE = 2, CTRL_IDLE = 4, STALL_CYCLES = 1000000 };

static uint32_t get(const struct bitloom_device *d, uint32_t offset) { return d->hw.read32(d->hw.context, offset); }
static void put(const struct bitloom_device *d, uint32_t offset, uint32_t value) {
  d->hw.write32(d->hw.context, offset, value);
}
static uint64_t pages(uint64_t bytes) {
  return (bytes + BITLOOM_PAGE_BYTES - 1) / BITLOOM_PAGE_BYTES * BITLOOM_PAGE_BYTES;
}

const char *bitloom_counter_name(uint32_t index) {
#define NAME(name, offset) #name,
  static const char *const kNames[] = {BITLOOM_COUNTER_LIST(NAME)};
#undef NAME
  return index < BITLOOM_COUNTERS ? kNames[index] : "?";
}

const char *bitloom_hw_error_name(uint32_t code) {
#define NAME(name, value) \
  if (code == (value)) return #name;
  BITLOOM_HW_ERROR_LIST(NAME)
#undef NAME
  return "UNKNOWN";
}

uint64_t bitloom_memory_needed(const struct bitloom_program *program) {
  return pages(program->program_bytes) + pages(program->input_bytes * program->batch) + pages(program->output.bytes) +
         pages(program->scratch_bytes);
}

uint32_t bitloom_output_rows(const struct bitloom_program *program) { return program->output.shape[1] / program->batch; }

int bitloom_open(struct bitloom_device *device, const struct bitloom_hw *hw, struct bitloom_error *error) {
  memset(device, 0, sizeof *device);
  memset(error, 0, sizeof *error);
  device->hw = *hw;
  device->stall_cycles = STALL_CYCLES;
  const uint32_t id = get(device, BITLOOM_REG_ID), version = get(device, BITLOOM_REG_VERSION);
  if (id != BITLOOM_HARDWARE_ID)
    return bitloom_fail(error, BITLOOM_E_DEVICE,
                        "no Bitloom accelerator answers: register ID is 0x%08" PRIX32 ", not 0x%08X; load the bitstream and "
                        "check the register address",
                        id, BITLOOM_HARDWARE_ID);
  if (version != BITLOOM_FORMAT_VERSION)
    return bitloom_fail(error, BITLOOM_E_DEVICE,
                        "the bitstream has format version %" PRIu32 ", this driver is for %u: build both from one release",
                        version, BITLOOM_FORMAT_VERSION);
  return BITLOOM_OK;
}

static int not_idle(struct bitloom_device *device, struct bitloom_error *error) {
  if (get(device, BITLOOM_REG_CTRL) & CTRL_IDLE) return BITLOOM_OK;
  return bitloom_fail(error, BITLOOM_E_BUSY,
                      "the accelerator is still running (layer %" PRIu32 "); wait for its end or load the bitstream again",
                      get(device, BITLOOM_REG_LAYER));
}

static void set_base(struct bitloom_device *device, uint32_t low, uint64_t offset) {
  const uint64_t address = device->hw.physical + offset;
  put(device, low, (uint32_t)address);
  put(device, low + 4, (uint32_t)(address >> 32));
}

int bitloom_load(struct bitloom_device *device, const struct bitloom_program *program, struct bitloom_error *error) {
  const struct bitloom_hw *hw = &device->hw;
  const uint32_t hash = get(device, BITLOOM_REG_ARCH_HASH);
  const uint64_t needed = bitloom_memory_needed(program);
  memset(error, 0, sizeof *error);
  device->program = NULL;
  if (hash != program->arch_hash)
    return bitloom_fail(error, BITLOOM_E_DEVICE,
                        "the program '%s' was compiled for build '%s' (hash %08" PRIx32 "), the bitstream has hash %08" PRIx32
                        "; load that build's bitstream or compile for this one",
                        program->name, program->arch, program->arch_hash, hash);
  if (hw->bytes < needed)
    return bitloom_fail(error, BITLOOM_E_MEMORY,
                        "the program '%s' needs %" PRIu64 " bytes of contiguous memory (program %" PRIu64 ", input %" PRIu64
                        ", output %" PRIu64 ", scratch %" PRIu64 "), the buffer has %" PRIu64 "; make it larger",
                        program->name, needed, program->program_bytes, program->input_bytes * program->batch,
                        program->output.bytes, program->scratch_bytes, hw->bytes);
  if (hw->physical % BITLOOM_ALIGNMENT != 0)
    return bitloom_fail(error, BITLOOM_E_MEMORY, "the buffer begins at 0x%" PRIx64 ", which is no multiple of %u",
                        hw->physical, BITLOOM_ALIGNMENT);
  if (not_idle(device, error) != BITLOOM_OK) return error->status;
  device->program = program;
  device->input_at = pages(program->program_bytes);
  device->output_at = device->input_at + pages(program->input_bytes * program->batch);
  device->scratch_at = device->output_at + pages(program->output.bytes);
  memset(hw->memory, 0, (size_t)needed);
  memcpy(hw->memory, program->commands, (size_t)program->command_bytes);
  uint64_t at = program->command_bytes;
  for (uint32_t i = 0; i < program->n_ports; ++i) {
    at = (at + BITLOOM_ALIGNMENT - 1) & ~(uint64_t)(BITLOOM_ALIGNMENT - 1);
    if (program->weight_bytes[i] != 0) memcpy(hw->memory + at, program->weights[i], (size_t)program->weight_bytes[i]);
    at += program->weight_bytes[i];
  }
  hw->to_device(hw->context, 0, needed);
  set_base(device, BITLOOM_REG_PROGRAM_LO, 0);
  set_base(device, BITLOOM_REG_INPUT_LO, device->input_at);
  set_base(device, BITLOOM_REG_OUTPUT_LO, device->output_at);
  set_base(device, BITLOOM_REG_SCRATCH_LO, device->scratch_at);
  put(device, BITLOOM_REG_COMMAND_BEATS, (uint32_t)(program->command_bytes / BITLOOM_BEAT_BYTES));
  return BITLOOM_OK;
}

static int check_image(const struct bitloom_device *device, uint32_t image, struct bitloom_error *error) {
  memset(error, 0, sizeof *error);
  if (device->program == NULL) return bitloom_fail(error, BITLOOM_E_ARGUMENT, "no program is loaded; call bitloom_load");
  if (image >= device->program->batch)
    return bitloom_fail(error, BITLOOM_E_ARGUMENT, "image %" PRIu32 " of a program of batch %" PRIu32 "; legal: 0 to %" PRIu32,
                        image, device->program->batch, device->program->batch - 1);
  return BITLOOM_OK;
}

int bitloom_write_input(struct bitloom_device *device, uint32_t image, const int8_t *codes,
                        struct bitloom_error *error) {
  if (check_image(device, image, error) != BITLOOM_OK) return error->status;
  const struct bitloom_program *p = device->program;
  const uint32_t *shape = p->folded ? p->fold.shape : p->linear.shape;
  const size_t count = (size_t)shape[0] * shape[1] * shape[2];
  const uint64_t at = device->input_at + p->input_bytes * image;
  const int8_t *illegal = memchr(codes, -128 & 0xFF, count);
  if (illegal != NULL)
    return bitloom_fail(error, BITLOOM_E_ARGUMENT, "input code %zu is -128; legal: -127 to 127",
                        (size_t)(illegal - codes));
  if (p->folded) bitloom_fold_image(&p->fold, codes, device->hw.memory + at);
  else bitloom_linear_write(&p->linear, codes, device->hw.memory + at);
  device->hw.to_device(device->hw.context, at, p->input_bytes);
  return BITLOOM_OK;
}

int bitloom_read_output(const struct bitloom_device *device, uint32_t image, int8_t *codes,
                        struct bitloom_error *error) {
  if (check_image(device, image, error) != BITLOOM_OK) return error->status;
  const struct bitloom_linear *output = &device->program->output;
  const uint32_t rows = bitloom_output_rows(device->program);
  device->hw.from_device(device->hw.context, device->output_at, output->bytes);
  bitloom_linear_read(output, image * rows, rows, device->hw.memory + device->output_at, codes);
  return BITLOOM_OK;
}

/* Waits for done. The order matters: pending interrupts are cleared before CTRL is read, whose done bit clears. */
static int wait_done(struct bitloom_device *device, uint64_t timeout_us, struct bitloom_error *error) {
  const struct bitloom_hw *hw = &device->hw;
  const uint64_t start = hw->time_us(hw->context);
  for (bool last = false;;) {
    const uint64_t passed = hw->time_us(hw->context) - start;
    int came = 1;
    if (hw->wait != NULL) {
      came = hw->wait(hw->context, passed < timeout_us ? timeout_us - passed : 0);
      if (came < 0) return bitloom_fail(error, BITLOOM_E_SYSTEM, "waiting for the interrupt failed");
      const uint32_t pending = get(device, BITLOOM_REG_ISR);
      if (pending != 0) put(device, BITLOOM_REG_ISR, pending);
    }
    if (get(device, BITLOOM_REG_CTRL) & CTRL_DONE) {
      if (came) return BITLOOM_OK;
      return bitloom_fail(error, BITLOOM_E_SYSTEM,
                          "the run ended, but its interrupt did not come; check the interrupt of the device tree, or poll");
    }
    if (last || !came) {
      char name[64];
      error->layer = get(device, BITLOOM_REG_LAYER);
      bitloom_layer_name(device->program, error->layer, name, sizeof name);
      return bitloom_fail(error, BITLOOM_E_TIMEOUT,
                          "the run did not end within %" PRIu64 " us; it is in layer %" PRIu32 " '%s'", timeout_us,
                          error->layer, name);
    }
    last = hw->time_us(hw->context) - start >= timeout_us; /* one more look after the time is over */
  }
}

int bitloom_run(struct bitloom_device *device, uint64_t timeout_us, uint32_t *counters, struct bitloom_error *error) {
#define OFFSET(name, offset) offset,
  static const uint32_t kCounters[] = {BITLOOM_COUNTER_LIST(OFFSET)};
#undef OFFSET
  if (check_image(device, 0, error) != BITLOOM_OK || not_idle(device, error) != BITLOOM_OK) return error->status;
  const uint32_t pending = get(device, BITLOOM_REG_ISR);
  if (pending != 0) put(device, BITLOOM_REG_ISR, pending);
  put(device, BITLOOM_REG_TIMEOUT, device->stall_cycles);
  put(device, BITLOOM_REG_IER, device->hw.wait != NULL ? 3 : 0);
  put(device, BITLOOM_REG_GIE, device->hw.wait != NULL ? 1 : 0);
  put(device, BITLOOM_REG_CTRL, CTRL_START);
  const int status = wait_done(device, timeout_us, error);
  for (uint32_t i = 0; counters != NULL && i < BITLOOM_COUNTERS; ++i) counters[i] = get(device, kCounters[i]);
  if (status != BITLOOM_OK) return status;
  error->hardware = get(device, BITLOOM_REG_ERROR);
  error->layer = get(device, BITLOOM_REG_LAYER);
  if (error->hardware != BITLOOM_HW_NONE) {
    char name[64];
    bitloom_layer_name(device->program, error->layer, name, sizeof name);
    return bitloom_fail(error, BITLOOM_E_HARDWARE,
                        "the accelerator stopped with error %" PRIu32 " (%s) in layer %" PRIu32 " '%s'; see docs/spec/commands.md",
                        error->hardware, bitloom_hw_error_name(error->hardware), error->layer, name);
  }
  return BITLOOM_OK;
}
