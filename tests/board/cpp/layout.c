/* What the tests ask of the driver without a device.
 *   layout convert PROGRAM CODES INPUT OUTPUT RESULT   codes -> INPUT as in DDR; OUTPUT as in DDR -> RESULT
 *   layout check PROGRAM...                            one line each: "ok" or the error */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitloom_session.h"

static void write_file(const char *path, const void *data, size_t bytes) {
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(data, 1, bytes, file) != bytes) exit(3);
  fclose(file);
}

static int convert(char **paths) {
  struct bitloom_error error;
  struct bitloom_program program;
  uint64_t bytes = 0, code_bytes = 0, ddr_bytes = 0;
  uint8_t *file = bitloom_read_file(paths[0], &bytes, &error);
  if (file == NULL || bitloom_program_read(&program, file, bytes, &error) != BITLOOM_OK) return 1;
  int8_t *codes = (int8_t *)bitloom_read_file(paths[1], &code_bytes, &error);
  uint8_t *ddr = bitloom_read_file(paths[3], &ddr_bytes, &error);
  uint8_t *input = malloc(program.input_bytes);
  const uint32_t *shape = program.output.shape;
  int8_t *result = malloc((size_t)shape[0] * shape[1] * shape[2]);
  if (ddr_bytes != program.output.bytes) return 2;
  if (program.folded) bitloom_fold_image(&program.fold, codes, input);
  else bitloom_linear_write(&program.linear, codes, input);
  bitloom_linear_read(&program.output, 0, shape[1], ddr, result);
  write_file(paths[2], input, program.input_bytes);
  write_file(paths[4], result, (size_t)shape[0] * shape[1] * shape[2]);
  free(file);
  free(codes);
  free(ddr);
  free(input);
  free(result);
  return 0;
}

int main(int argc, char **argv) {
  struct bitloom_error error;
  if (argc == 7 && strcmp(argv[1], "convert") == 0) return convert(argv + 2);
  for (int i = 2; i < argc; ++i) puts(bitloom_check_file(argv[i], &error) == BITLOOM_OK ? "ok" : error.text);
  return 0;
}
