/* Reads and checks a program file (docs/spec/program-file.md). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bitloom.h"
#include "bitloom_hash.h"

enum { FIXED_BYTES = 20, SIZE_LIMIT = 1 << 24 };

int bitloom_fail(struct bitloom_error *error, int status, const char *format, ...) {
  va_list values;
  error->status = status;
  va_start(values, format);
  vsnprintf(error->text, sizeof error->text, format, values);
  va_end(values);
  return status;
}

static uint32_t word32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int corrupted(struct bitloom_error *error, const char *what) {
  return bitloom_fail(error, BITLOOM_E_FILE, "the program is corrupted: %s; compile it again", what);
}

static bool size_of(struct bitloom_json object, const char *key, uint32_t *size) {
  struct bitloom_json value;
  int64_t number = 0;
  if (!bitloom_json_member(object, key, &value) || !bitloom_json_integer(value, 0, SIZE_LIMIT, &number)) return false;
  *size = (uint32_t)number;
  return true;
}

static bool text_of(struct bitloom_json object, const char *key, char *text, size_t size) {
  struct bitloom_json value;
  return bitloom_json_member(object, key, &value) && bitloom_json_string(value, text, size);
}

static bool hash_of(struct bitloom_json object, const char *key, uint32_t *hash) {
  struct bitloom_json value;
  int64_t number = 0;
  if (!bitloom_json_member(object, key, &value) || !bitloom_json_integer(value, 0, UINT32_MAX, &number)) return false;
  *hash = (uint32_t)number;
  return true;
}

static bool shape_of(struct bitloom_json object, uint32_t shape[3]) {
  struct bitloom_json list, item;
  const char *step = NULL;
  int64_t number = 0;
  if (!bitloom_json_member(object, "shape", &list)) return false;
  for (int i = 0; i < 3; ++i) {
    if (!bitloom_json_item(list, &step, &item) || !bitloom_json_integer(item, 1, SIZE_LIMIT, &number)) return false;
    shape[i] = (uint32_t)number;
  }
  return !bitloom_json_item(list, &step, &item);
}

static bool linear_of(struct bitloom_json object, struct bitloom_linear *l) {
  struct bitloom_json list, item, layout;
  const char *step = NULL;
  int64_t number = 0;
  if (!shape_of(object, l->shape) || !bitloom_json_member(object, "segments", &list)) return false;
  for (l->n_segments = 0; bitloom_json_item(list, &step, &item); ++l->n_segments) {
    if (l->n_segments == BITLOOM_MAX_SEGMENTS || !bitloom_json_integer(item, 1, SIZE_LIMIT, &number)) return false;
    l->segments[l->n_segments] = (uint32_t)number;
  }
  return bitloom_json_member(object, "layout", &layout) && bitloom_json_member(layout, "split", &item) &&
         bitloom_json_bool(item, &l->split) && size_of(layout, "pitch", &l->pitch) &&
         size_of(layout, "phase_pixels", &l->phase_pixels) && size_of(object, "word_bytes", &l->word_bytes) &&
         size_of(object, "words", &l->words) && bitloom_linear_check(l);
}

static bool fold_of(struct bitloom_json object, struct bitloom_fold *f, uint64_t *bytes) {
  struct bitloom_json value;
  int64_t zero = 0;
  if (!bitloom_json_member(object, "zero_point", &value) || !bitloom_json_integer(value, -127, 127, &zero)) return false;
  f->zero_point = (int32_t)zero;
  return shape_of(object, f->shape) && size_of(object, "step", &f->step) && f->step <= 16 &&
         size_of(object, "unit_bytes", &f->unit_bytes) && size_of(object, "window", &f->window) &&
         size_of(object, "top", &f->top) && size_of(object, "left", &f->left) && size_of(object, "rows", &f->rows) &&
         size_of(object, "pitch", &f->pitch) && size_of(object, "units", &f->units) && bitloom_fold_check(f, bytes);
}

static bool input_of(struct bitloom_json header, struct bitloom_program *program) {
  struct bitloom_json input;
  char kind[16];
  if (!bitloom_json_member(header, "input", &input) || !text_of(input, "kind", kind, sizeof kind)) return false;
  program->folded = strcmp(kind, "FoldSpec") == 0;
  if (program->folded) return fold_of(input, &program->fold, &program->input_bytes);
  if (strcmp(kind, "LinearSpec") != 0 || !linear_of(input, &program->linear)) return false;
  program->input_bytes = program->linear.bytes;
  return true;
}

/* The architecture's fields must give its hash: the first four bytes of the SHA-256 of this text (ArchConfig.hash). */
static bool arch_of(struct bitloom_json header, struct bitloom_program *program) {
  static const char *const kFields[] = {"acc_groups", "act_rows",   "channels",    "drain_channels", "format",
                                        "pixels",     "ring_words", "tap_entries", "vector",         "weight_ports"};
  struct bitloom_json arch;
  char text[400];
  uint8_t digest[32];
  size_t at = 0;
  if (!bitloom_json_member(header, "arch", &arch) || !text_of(arch, "name", program->arch, sizeof program->arch) ||
      !hash_of(header, "arch_hash", &program->arch_hash) || !size_of(arch, "weight_ports", &program->n_ports) ||
      program->n_ports < 1 || program->n_ports > BITLOOM_MAX_PORTS)
    return false;
  for (size_t i = 0; i < sizeof kFields / sizeof *kFields; ++i) {
    uint32_t value = 1; /* of "format", which is no field */
    if (strcmp(kFields[i], "format") != 0 && !size_of(arch, kFields[i], &value)) return false;
    at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%s\": %" PRIu32, i == 0 ? "{" : ", ", kFields[i], value);
  }
  at += (size_t)snprintf(text + at, sizeof text - at, "}");
  bitloom_sha256((const uint8_t *)text, at, digest);
  return word32(digest) == program->arch_hash;
}

static bool digest_is(const uint8_t *data, uint64_t bytes, const char *hex) {
  uint8_t digest[32];
  char text[65];
  bitloom_sha256(data, bytes, digest);
  for (int i = 0; i < 32; ++i) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  return strcmp(text, hex) == 0;
}

static int sections_of(struct bitloom_json header, struct bitloom_program *program, const uint8_t *at,
                       const uint8_t *end, struct bitloom_error *error) {
  struct bitloom_json table, item, value;
  const char *step = NULL;
  uint32_t count = 0;
  if (!bitloom_json_member(header, "sections", &table)) return corrupted(error, "it has no sections");
  for (; bitloom_json_item(table, &step, &item); ++count) {
    char name[24], expected[24], hex[65];
    int64_t bytes = 0;
    snprintf(expected, sizeof expected, count == 0 ? "commands" : "weights%" PRIu32, count - 1);
    if (count > program->n_ports || !text_of(item, "name", name, sizeof name) || strcmp(name, expected) != 0 ||
        !text_of(item, "sha256", hex, sizeof hex) || !bitloom_json_member(item, "bytes", &value) ||
        !bitloom_json_integer(value, 0, INT64_C(1) << 40, &bytes))
      return corrupted(error, "its table of sections is not as specified");
    if (bytes > end - at)
      return bitloom_fail(error, BITLOOM_E_FILE,
                          "the program is truncated: section '%s' has %" PRId64 " bytes, %" PRId64
                          " are there; copy the file again",
                          name, bytes, (int64_t)(end - at));
    if (!digest_is(at, (uint64_t)bytes, hex))
      return bitloom_fail(error, BITLOOM_E_FILE,
                          "the program is corrupted: section '%s' does not match its SHA-256; copy the file again", name);
    if (count == 0) {
      program->commands = at;
      program->command_bytes = (uint64_t)bytes;
    } else {
      program->weights[count - 1] = at;
      program->weight_bytes[count - 1] = (uint64_t)bytes;
    }
    at += bytes;
  }
  if (count != program->n_ports + 1) return corrupted(error, "sections are missing");
  if (at != end)
    return bitloom_fail(error, BITLOOM_E_FILE, "the program is corrupted: %" PRId64 " bytes follow its last section",
                        (int64_t)(end - at));
  program->program_bytes = program->command_bytes;
  for (uint32_t i = 0; i < program->n_ports; ++i) {
    program->program_bytes = (program->program_bytes + BITLOOM_ALIGNMENT - 1) & ~(uint64_t)(BITLOOM_ALIGNMENT - 1);
    program->program_bytes += program->weight_bytes[i];
  }
  return BITLOOM_OK;
}

/* The command stream decodes: known opcodes, whole headers and taps. */
static int stream_of(const struct bitloom_program *program, struct bitloom_error *error) {
  const uint64_t header = BITLOOM_HEADER_BEATS * BITLOOM_BEAT_BYTES;
  uint64_t at = 0;
  while (at < program->command_bytes) {
    if (program->command_bytes - at < header) return corrupted(error, "its command stream ends inside a header");
    const uint32_t word = word32(program->commands + at);
    const uint32_t opcode = word >> BITLOOM_FIELD_OPCODE_LSB & ((1u << BITLOOM_FIELD_OPCODE_BITS) - 1);
    const uint32_t taps = word >> BITLOOM_FIELD_N_TAPS_LSB & ((1u << BITLOOM_FIELD_N_TAPS_BITS) - 1);
    if (opcode < BITLOOM_OP_BEGIN || opcode > BITLOOM_OP_STORE)
      return bitloom_fail(error, BITLOOM_E_FILE, "the program is corrupted: unknown opcode %" PRIu32 " at byte %" PRIu64,
                          opcode, at);
    at += header + (uint64_t)taps * BITLOOM_BEAT_BYTES;
  }
  return at == program->command_bytes ? BITLOOM_OK : corrupted(error, "its command stream ends inside the taps");
}

static int header_of(struct bitloom_json header, struct bitloom_program *program, struct bitloom_error *error) {
  struct bitloom_json value;
  uint32_t format = 0;
  int64_t scratch = 0;
  if (!size_of(header, "format", &format) || !text_of(header, "name", program->name, sizeof program->name) ||
      !text_of(header, "graph_hash", program->graph_hash, sizeof program->graph_hash) ||
      !bitloom_json_member(header, "layers", &program->layers))
    return corrupted(error, "its header lacks fields");
  if (format != BITLOOM_FORMAT_VERSION)
    return bitloom_fail(error, BITLOOM_E_FILE,
                        "the program uses command format %" PRIu32 ", this driver %u: compile it again", format,
                        BITLOOM_FORMAT_VERSION);
  if (!arch_of(header, program)) return corrupted(error, "its architecture does not match its hash");
  if (!size_of(header, "batch", &program->batch) || program->batch == 0 || program->batch > 65535 ||
      !bitloom_json_member(header, "scratch_bytes", &value) ||
      !bitloom_json_integer(value, 0, INT64_C(1) << 40, &scratch))
    return corrupted(error, "its batch or scratch_bytes is not a size");
  program->scratch_bytes = (uint64_t)scratch;
  if (!input_of(header, program)) return corrupted(error, "its input is not laid out as specified");
  if (!bitloom_json_member(header, "output", &value) || !linear_of(value, &program->output) ||
      program->output.shape[1] % program->batch != 0)
    return corrupted(error, "its output is not laid out as specified");
  return BITLOOM_OK;
}

int bitloom_program_read(struct bitloom_program *program, const void *file, uint64_t bytes,
                         struct bitloom_error *error) {
  static const char kMagic[8] = BITLOOM_FILE_MAGIC;
  const uint8_t *data = file;
  struct bitloom_json header;
  memset(program, 0, sizeof *program);
  memset(error, 0, sizeof *error);
  if (bytes < sizeof kMagic || memcmp(data, kMagic, sizeof kMagic) != 0)
    return bitloom_fail(error, BITLOOM_E_FILE, "not a Bitloom program: the file does not begin with '%s'", kMagic);
  if (bytes < FIXED_BYTES)
    return bitloom_fail(error, BITLOOM_E_FILE, "the program is truncated: %" PRIu64 " bytes; copy the file again", bytes);
  const uint32_t version = word32(data + 8), length = word32(data + 12), crc = word32(data + 16);
  if (version != BITLOOM_FILE_VERSION)
    return bitloom_fail(error, BITLOOM_E_FILE,
                        "the program has file version %" PRIu32 ", this driver reads %u: compile it again", version,
                        BITLOOM_FILE_VERSION);
  if (length > bytes - FIXED_BYTES)
    return bitloom_fail(error, BITLOOM_E_FILE,
                        "the program is truncated: its header has %" PRIu32 " bytes, %" PRIu64
                        " are there; copy the file again",
                        length, bytes - FIXED_BYTES);
  if (bitloom_crc32(data + FIXED_BYTES, length) != crc) return corrupted(error, "its header does not match its CRC");
  if (!bitloom_json_parse((const char *)data + FIXED_BYTES, length, &header))
    return corrupted(error, "its header is no JSON");
  int status = header_of(header, program, error);
  if (status == BITLOOM_OK)
    status = sections_of(header, program, data + FIXED_BYTES + length, data + bytes, error);
  return status == BITLOOM_OK ? stream_of(program, error) : status;
}

void bitloom_layer_name(const struct bitloom_program *program, uint32_t layer, char *text, size_t size) {
  struct bitloom_json name;
  const char *step = NULL;
  snprintf(text, size, "?");
  for (uint32_t i = 0; bitloom_json_item(program->layers, &step, &name); ++i)
    if (i == layer) {
      bitloom_json_string(name, text, size);
      return;
    }
}
