/* Generated from bitloom/program/commands.py (make generate). Do not edit. */
#ifndef BITLOOM_REGS_H
#define BITLOOM_REGS_H

#define BITLOOM_HARDWARE_ID 0xB1710010u
#define BITLOOM_FORMAT_VERSION 2u
#define BITLOOM_BEAT_BYTES 16u
#define BITLOOM_HEADER_BEATS 6u
/* Program file: magic (8 bytes), version, and alignment of the weights in the program image. */
#define BITLOOM_FILE_MAGIC "BITLOOM"
#define BITLOOM_FILE_VERSION 2u
#define BITLOOM_ALIGNMENT 64u
/* Program, input, output and scratch begin at whole pages of the driver's buffer. */
#define BITLOOM_PAGE_BYTES 4096u

/* Fields of a command's header that the driver reads: first bit and width. */
#define BITLOOM_FIELD_OPCODE_LSB 0u
#define BITLOOM_FIELD_OPCODE_BITS 8u
#define BITLOOM_FIELD_N_TAPS_LSB 20u
#define BITLOOM_FIELD_N_TAPS_BITS 10u

/* Register offsets in bytes (AXI4-Lite). */
#define BITLOOM_REG_CTRL 0x00u /* rw; bit 0 start, 1 done (clears on read), 2 idle, 3 ready */
#define BITLOOM_REG_GIE 0x04u /* rw; bit 0 global interrupt enable */
#define BITLOOM_REG_IER 0x08u /* rw; bit 0 interrupt on done, bit 1 on error */
#define BITLOOM_REG_ISR 0x0Cu /* rw; pending interrupts, toggle on write */
#define BITLOOM_REG_ID 0x10u /* r; HARDWARE_ID */
#define BITLOOM_REG_VERSION 0x14u /* r; FORMAT_VERSION */
#define BITLOOM_REG_ARCH_HASH 0x18u /* r; ArchConfig.hash */
#define BITLOOM_REG_ERROR 0x1Cu /* r; ErrorCode of the last run */
#define BITLOOM_REG_PROGRAM_LO 0x20u /* rw; base of commands and weights */
#define BITLOOM_REG_PROGRAM_HI 0x24u /* rw */
#define BITLOOM_REG_INPUT_LO 0x28u /* rw; base of the input image */
#define BITLOOM_REG_INPUT_HI 0x2Cu /* rw */
#define BITLOOM_REG_OUTPUT_LO 0x30u /* rw; base of the output */
#define BITLOOM_REG_OUTPUT_HI 0x34u /* rw */
#define BITLOOM_REG_SCRATCH_LO 0x38u /* rw; base of tensors that do not fit on chip */
#define BITLOOM_REG_SCRATCH_HI 0x3Cu /* rw */
#define BITLOOM_REG_TIMEOUT 0x40u /* rw; cycles without progress before ErrorCode.TIMEOUT (0: never) */
#define BITLOOM_REG_COMMAND_BEATS 0x44u /* rw; beats of the command stream at PROGRAM */
#define BITLOOM_REG_LAYER 0x48u /* r; layer of the command in progress */
#define BITLOOM_REG_CYCLES_TOTAL 0x80u /* r; cycles from start to done */
#define BITLOOM_REG_CYCLES_COMPUTE 0x84u /* r; the array or the pool unit worked */
#define BITLOOM_REG_CYCLES_WEIGHTS 0x88u /* r; waited for weights from DDR */
#define BITLOOM_REG_CYCLES_PLANES 0x8Cu /* r; waited for bit planes to be shifted in */
#define BITLOOM_REG_CYCLES_DRAIN 0x90u /* r; waited for accumulators to be drained */
#define BITLOOM_REG_CYCLES_INPUT 0x94u /* r; waited for LOAD or STORE */
#define BITLOOM_REG_CYCLES_CONTROL 0x98u /* r; everything else: commands, pipeline fill and flush */
#define BITLOOM_REG_BEATS_WEIGHTS 0x9Cu /* r; beats read by the weight ports */
#define BITLOOM_REG_BEATS_READ 0xA0u /* r; beats read by LOAD and commands */
#define BITLOOM_REG_BEATS_WRITE 0xA4u /* r; beats written by STORE */

enum bitloom_opcode {
  BITLOOM_OP_BEGIN = 1,
  BITLOOM_OP_END = 2,
  BITLOOM_OP_WEIGHTS = 3,
  BITLOOM_OP_CONV = 4,
  BITLOOM_OP_POOL = 5,
  BITLOOM_OP_LOAD = 6,
  BITLOOM_OP_STORE = 7,
};

/* Register ERROR. */
enum bitloom_hw_error {
  BITLOOM_HW_NONE = 0,
  BITLOOM_HW_BAD_OPCODE = 1,
  BITLOOM_HW_BAD_ARCHITECTURE = 2,
  BITLOOM_HW_BAD_FIELD = 3,
  BITLOOM_HW_AXI_WEIGHTS = 4,
  BITLOOM_HW_AXI_COMMAND = 5,
  BITLOOM_HW_AXI_DATA_READ = 6,
  BITLOOM_HW_AXI_DATA_WRITE = 7,
  BITLOOM_HW_TIMEOUT = 8,
};

#define BITLOOM_COUNTERS 10u
/* X(name, offset) for every counter, in order. */
#define BITLOOM_COUNTER_LIST(X) \
  X(CYCLES_TOTAL, 0x80u) \
  X(CYCLES_COMPUTE, 0x84u) \
  X(CYCLES_WEIGHTS, 0x88u) \
  X(CYCLES_PLANES, 0x8Cu) \
  X(CYCLES_DRAIN, 0x90u) \
  X(CYCLES_INPUT, 0x94u) \
  X(CYCLES_CONTROL, 0x98u) \
  X(BEATS_WEIGHTS, 0x9Cu) \
  X(BEATS_READ, 0xA0u) \
  X(BEATS_WRITE, 0xA4u)
/* X(name, value) for every error of the hardware. */
#define BITLOOM_HW_ERROR_LIST(X) \
  X(NONE, 0) \
  X(BAD_OPCODE, 1) \
  X(BAD_ARCHITECTURE, 2) \
  X(BAD_FIELD, 3) \
  X(AXI_WEIGHTS, 4) \
  X(AXI_COMMAND, 5) \
  X(AXI_DATA_READ, 6) \
  X(AXI_DATA_WRITE, 7) \
  X(TIMEOUT, 8)

#endif
