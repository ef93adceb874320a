#include "bitloom_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bitloom_session {
  uint8_t *file;
  struct bitloom_program program;
  struct bitloom_device device;
};

uint8_t *bitloom_read_file(const char *path, uint64_t *bytes, struct bitloom_error *error) {
  uint8_t *data = NULL;
  size_t room = 1 << 16, used = 0;
  FILE *file = fopen(path, "rb");
  memset(error, 0, sizeof *error);
  if (file == NULL) {
    bitloom_fail(error, BITLOOM_E_FILE, "cannot read '%s': %s", path, strerror(errno));
    return NULL;
  }
  for (;;) {
    uint8_t *larger = realloc(data, room);
    if (larger == NULL) {
      bitloom_fail(error, BITLOOM_E_SYSTEM, "no memory for '%s'", path);
      break;
    }
    data = larger;
    used += fread(data + used, 1, room - 1 - used, file);
    if (used < room - 1) break;
    room *= 2;
  }
  if (error->status == BITLOOM_OK && ferror(file))
    bitloom_fail(error, BITLOOM_E_FILE, "cannot read '%s': %s", path, strerror(errno));
  fclose(file);
  if (error->status != BITLOOM_OK) {
    free(data);
    return NULL;
  }
  data[used] = 0;
  *bytes = used;
  return data;
}

int bitloom_check_file(const char *path, struct bitloom_error *error) {
  struct bitloom_program program;
  uint64_t bytes = 0;
  uint8_t *file = bitloom_read_file(path, &bytes, error);
  if (file != NULL) bitloom_program_read(&program, file, bytes, error);
  free(file);
  return error->status;
}

struct bitloom_session *bitloom_session_open(const char *path, const char *where, struct bitloom_error *error) {
  struct bitloom_session *session = calloc(1, sizeof *session);
  struct bitloom_hw hw = {0};
  uint64_t bytes = 0;
  if (session == NULL) {
    memset(error, 0, sizeof *error);
    bitloom_fail(error, BITLOOM_E_SYSTEM, "no memory for a session");
    return NULL;
  }
  session->file = bitloom_read_file(path, &bytes, error);
  if (session->file != NULL && bitloom_program_read(&session->program, session->file, bytes, error) == BITLOOM_OK &&
      bitloom_backend_open(&hw, where, error) == BITLOOM_OK) {
    if (bitloom_open(&session->device, &hw, error) == BITLOOM_OK &&
        bitloom_load(&session->device, &session->program, error) == BITLOOM_OK)
      return session;
    bitloom_backend_close(&hw);
  }
  free(session->file);
  free(session);
  return NULL;
}

void bitloom_session_close(struct bitloom_session *session) {
  if (session == NULL) return;
  bitloom_backend_close(&session->device.hw);
  free(session->file);
  free(session);
}

const struct bitloom_program *bitloom_session_program(const struct bitloom_session *session) { return &session->program; }

const char *bitloom_session_graph_hash(const struct bitloom_session *session) { return session->program.graph_hash; }

void bitloom_session_shapes(const struct bitloom_session *session, uint32_t input[4], uint32_t output[4]) {
  const struct bitloom_program *p = &session->program;
  input[0] = output[0] = p->batch;
  memcpy(input + 1, p->folded ? p->fold.shape : p->linear.shape, 3 * sizeof *input);
  memcpy(output + 1, p->output.shape, 3 * sizeof *output);
  output[2] = bitloom_output_rows(p);
}

int bitloom_session_run(struct bitloom_session *session, const int8_t *input, int8_t *output, uint64_t timeout_us,
                        uint32_t *counters, struct bitloom_error *error) {
  uint32_t in[4], out[4];
  bitloom_session_shapes(session, in, out);
  const size_t in_size = (size_t)in[1] * in[2] * in[3], out_size = (size_t)out[1] * out[2] * out[3];
  for (uint32_t i = 0; i < in[0]; ++i)
    if (bitloom_write_input(&session->device, i, input + i * in_size, error) != BITLOOM_OK) return error->status;
  if (bitloom_run(&session->device, timeout_us, counters, error) != BITLOOM_OK) return error->status;
  for (uint32_t i = 0; i < out[0]; ++i)
    if (bitloom_read_output(&session->device, i, output + i * out_size, error) != BITLOOM_OK) return error->status;
  return BITLOOM_OK;
}
