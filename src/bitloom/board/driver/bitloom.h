/* Bitloom driver: loads a program file, runs images on the accelerator, reads results and counters.
 *
 * C11, no dependency but the C library, no allocation. All hardware access goes through `struct bitloom_hw`, which a
 * back end fills: bitloom_linux.c (UIO and u-dma-buf), bitloom_baremetal.c, or your own.
 *
 * Every function that can fail returns an `enum bitloom_status` and fills `struct bitloom_error` with a sentence that
 * names the thing, its value and the fix. Codes are int8 in [-127, 127] in (channel, row, column) order.
 * Not safe for several threads at once on one device. */
#ifndef BITLOOM_H
#define BITLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bitloom_json.h"
#include "bitloom_regs.h"

#ifdef __cplusplus
extern "C" {
#endif

enum bitloom_status {
  BITLOOM_OK = 0,
  BITLOOM_E_FILE = 1,     /* the file is truncated, corrupted or of another version */
  BITLOOM_E_DEVICE = 2,   /* not a Bitloom accelerator, or another build than the program's */
  BITLOOM_E_MEMORY = 3,   /* the contiguous buffer is too small or misaligned */
  BITLOOM_E_ARGUMENT = 4, /* an image, a batch or a size that the program does not take */
  BITLOOM_E_BUSY = 5,     /* start while a run is under way */
  BITLOOM_E_HARDWARE = 6, /* the run ended with an error code: see bitloom_error.hardware and .layer */
  BITLOOM_E_TIMEOUT = 7,  /* the run did not end in time */
  BITLOOM_E_SYSTEM = 8    /* a call of the operating system failed */
};

struct bitloom_error {
  int32_t status;    /* enum bitloom_status */
  uint32_t hardware; /* register ERROR (enum bitloom_hw_error) */
  uint32_t layer;    /* register LAYER */
  char text[260];
};

/* Access to the hardware. Memory is one physically contiguous buffer that CPU and accelerator share. */
struct bitloom_hw {
  void *context;
  uint32_t (*read32)(void *context, uint32_t offset);
  void (*write32)(void *context, uint32_t offset, uint32_t value);
  /* Microseconds since any fixed moment. */
  uint64_t (*time_us)(void *context);
  /* Waits for the interrupt: 1 it came, 0 not within timeout_us, negative: a failure. NULL: the driver polls. */
  int (*wait)(void *context, uint64_t timeout_us);
  /* Makes bytes that the CPU wrote visible to the accelerator, and the reverse (cache flush and invalidate). */
  void (*to_device)(void *context, uint64_t offset, uint64_t bytes);
  void (*from_device)(void *context, uint64_t offset, uint64_t bytes);
  uint8_t *memory;   /* as the CPU sees it */
  uint64_t physical; /* as the accelerator sees it: a multiple of 64 */
  uint64_t bytes;
};

/* A back end fills `hw` (where: its own notation, NULL for the default) and gives up what it took. */
int bitloom_backend_open(struct bitloom_hw *hw, const char *where, struct bitloom_error *error);
void bitloom_backend_close(struct bitloom_hw *hw);

#define BITLOOM_MAX_SEGMENTS 256u
#define BITLOOM_MAX_PORTS 4u

/* A tensor as words in DDR (LinearSpec of docs/spec/program-file.md). */
struct bitloom_linear {
  uint32_t shape[3]; /* channels, rows, columns */
  uint32_t n_segments, segments[BITLOOM_MAX_SEGMENTS];
  bool split;
  uint32_t pitch, phase_pixels, word_bytes, words;
  uint64_t bytes;
};

/* A folded image (FoldSpec). */
struct bitloom_fold {
  uint32_t shape[3];
  int32_t zero_point;
  uint32_t step, unit_bytes, window, top, left, rows, pitch, units;
};

/* A checked program file. It points into the file's bytes, which must stay where they are. */
struct bitloom_program {
  char name[64], arch[64], graph_hash[65];
  uint32_t arch_hash, batch, n_ports;
  const uint8_t *commands, *weights[BITLOOM_MAX_PORTS];
  uint64_t command_bytes, weight_bytes[BITLOOM_MAX_PORTS];
  uint64_t program_bytes;                     /* behind the PROGRAM base */
  uint64_t input_bytes;                       /* of one image */
  uint64_t scratch_bytes;
  bool folded;                                /* the input is `fold`, else `linear` */
  struct bitloom_fold fold;
  struct bitloom_linear linear, output;       /* output: rows of all images of a batch, one below the other */
  struct bitloom_json layers;
};

struct bitloom_device {
  struct bitloom_hw hw;
  const struct bitloom_program *program;
  uint64_t input_at, output_at, scratch_at;   /* offsets in hw.memory; the program is at 0 */
  uint32_t stall_cycles;                      /* register TIMEOUT: cycles without progress; 0: never */
};

/* Checks a program file: magic, versions, lengths, CRC-32, SHA-256 of every section, architecture against its hash,
 * command stream. E_FILE. */
int bitloom_program_read(struct bitloom_program *program, const void *file, uint64_t bytes,
                         struct bitloom_error *error);
/* Bytes of contiguous memory that the program needs. */
uint64_t bitloom_memory_needed(const struct bitloom_program *program);
/* The name of a layer, cut to `size` - 1 characters ("?" for an unknown number). */
void bitloom_layer_name(const struct bitloom_program *program, uint32_t layer, char *text, size_t size);
/* Rows of one image in the output. */
uint32_t bitloom_output_rows(const struct bitloom_program *program);

/* Takes the hardware: registers ID and VERSION must be those of this driver. E_DEVICE. */
int bitloom_open(struct bitloom_device *device, const struct bitloom_hw *hw, struct bitloom_error *error);
/* Register ARCH_HASH must be the program's; copies it into memory. E_DEVICE, E_MEMORY, E_BUSY. */
int bitloom_load(struct bitloom_device *device, const struct bitloom_program *program, struct bitloom_error *error);
/* Image `image` of the batch: codes int8 [channels][rows][columns]. E_ARGUMENT. */
int bitloom_write_input(struct bitloom_device *device, uint32_t image, const int8_t *codes,
                        struct bitloom_error *error);
/* Starts and waits at most timeout_us. counters: BITLOOM_COUNTERS values in the order of BITLOOM_COUNTER_LIST, or
 * NULL. E_BUSY, E_HARDWARE, E_TIMEOUT, E_SYSTEM. */
int bitloom_run(struct bitloom_device *device, uint64_t timeout_us, uint32_t *counters, struct bitloom_error *error);
/* Result of image `image`: codes int8 [channels][bitloom_output_rows][columns]. E_ARGUMENT. */
int bitloom_read_output(const struct bitloom_device *device, uint32_t image, int8_t *codes,
                        struct bitloom_error *error);

const char *bitloom_hw_error_name(uint32_t code);
const char *bitloom_counter_name(uint32_t index);
/* Fills `error` and returns `status`. */
int bitloom_fail(struct bitloom_error *error, int status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* bitloom_layout.c: an image into DDR bytes and a result out of them, as bitloom/program/inputs.py does. */
int bitloom_fold_check(const struct bitloom_fold *fold, uint64_t *bytes);
int bitloom_linear_check(struct bitloom_linear *linear);
void bitloom_fold_image(const struct bitloom_fold *fold, const int8_t *codes, uint8_t *to);
void bitloom_linear_write(const struct bitloom_linear *linear, const int8_t *codes, uint8_t *to);
/* Rows first .. first + rows - 1. */
void bitloom_linear_read(const struct bitloom_linear *linear, uint32_t first, uint32_t rows, const uint8_t *from,
                         int8_t *codes);

#ifdef __cplusplus
}
#endif

#endif
