/* A program on the board in one object, for hosts with files and malloc: what bitloom_run and the Python binding use. */
#ifndef BITLOOM_SESSION_H
#define BITLOOM_SESSION_H

#include "bitloom.h"

#ifdef __cplusplus
extern "C" {
#endif

struct bitloom_session;

/* The bytes of a file, to be freed; NULL with E_FILE. A NUL follows the last byte. */
uint8_t *bitloom_read_file(const char *path, uint64_t *bytes, struct bitloom_error *error);
/* Checks a program file without any hardware. */
int bitloom_check_file(const char *path, struct bitloom_error *error);
/* Reads the program, opens the back end (where: its notation, NULL: default) and loads; NULL on an error. */
struct bitloom_session *bitloom_session_open(const char *path, const char *where, struct bitloom_error *error);
void bitloom_session_close(struct bitloom_session *session);
const struct bitloom_program *bitloom_session_program(const struct bitloom_session *session);
const char *bitloom_session_graph_hash(const struct bitloom_session *session);
/* {batch, channels, rows, columns} of what a run takes and gives. */
void bitloom_session_shapes(const struct bitloom_session *session, uint32_t input[4], uint32_t output[4]);
/* One run: int8 codes of the shapes above in and out; counters: BITLOOM_COUNTERS values or NULL. */
int bitloom_session_run(struct bitloom_session *session, const int8_t *input, int8_t *output, uint64_t timeout_us,
                        uint32_t *counters, struct bitloom_error *error);

/* network.json: what a pixel's byte is as a code, and what an output code is worth. */
struct bitloom_network {
  uint32_t shape[3];   /* channels, rows, columns of an image */
  int8_t *pixel_codes; /* [channels][256], NULL when the file has none */
  double output_scale; /* value = (code - output_zero_point) * output_scale */
  int32_t output_zero_point;
};

/* Reads the file for a program; E_FILE when it belongs to another network. Free with bitloom_network_free. */
int bitloom_network_read(struct bitloom_network *network, const char *path, const struct bitloom_program *program,
                         struct bitloom_error *error);
void bitloom_network_free(struct bitloom_network *network);

#ifdef __cplusplus
}
#endif

#endif
