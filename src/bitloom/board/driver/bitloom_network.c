/* network.json, the companion of a program file. */
#include <stdlib.h>
#include <string.h>

#include "bitloom_session.h"

static bool table_of(struct bitloom_json rows, uint32_t channels, int8_t *codes) {
  struct bitloom_json row, item;
  const char *step = NULL;
  int64_t code = 0;
  for (uint32_t c = 0; c < channels; ++c) {
    const char *inner = NULL;
    if (!bitloom_json_item(rows, &step, &row)) return false;
    for (uint32_t i = 0; i < 256; ++i) {
      if (!bitloom_json_item(row, &inner, &item) || !bitloom_json_integer(item, -127, 127, &code)) return false;
      codes[256 * c + i] = (int8_t)code;
    }
  }
  return !bitloom_json_item(rows, &step, &row);
}

static bool fields_of(struct bitloom_json root, struct bitloom_network *network) {
  struct bitloom_json value;
  int64_t zero = 0;
  if (!bitloom_json_member(root, "output_scale", &value) || !bitloom_json_number(value, &network->output_scale) ||
      !bitloom_json_member(root, "output_zero_point", &value) || !bitloom_json_integer(value, -128, 127, &zero))
    return false;
  network->output_zero_point = (int32_t)zero;
  if (!bitloom_json_member(root, "pixel_codes", &value)) return false;
  if (*value.at == 'n') return true; /* null: the images' normalisation is not known */
  network->pixel_codes = malloc((size_t)network->shape[0] * 256);
  return network->pixel_codes != NULL && table_of(value, network->shape[0], network->pixel_codes);
}

int bitloom_network_read(struct bitloom_network *network, const char *path, const struct bitloom_program *program,
                         struct bitloom_error *error) {
  struct bitloom_json root, value;
  uint64_t bytes = 0;
  char hash[65] = "";
  memset(network, 0, sizeof *network);
  memcpy(network->shape, program->folded ? program->fold.shape : program->linear.shape, sizeof network->shape);
  uint8_t *file = bitloom_read_file(path, &bytes, error);
  if (file == NULL) return error->status;
  if (!bitloom_json_parse((const char *)file, (size_t)bytes, &root) ||
      !bitloom_json_member(root, "graph_hash", &value) || !bitloom_json_string(value, hash, sizeof hash))
    bitloom_fail(error, BITLOOM_E_FILE, "'%s' is not a network.json; take the one beside the program", path);
  else if (strcmp(hash, program->graph_hash) != 0)
    bitloom_fail(error, BITLOOM_E_FILE, "'%s' belongs to another network than the program '%s'; take the one beside it", path,
                 program->name);
  else if (!fields_of(root, network))
    bitloom_fail(error, BITLOOM_E_FILE, "'%s' lacks fields or holds illegal ones; compile the network again", path);
  free(file);
  if (error->status != BITLOOM_OK) bitloom_network_free(network);
  return error->status;
}

void bitloom_network_free(struct bitloom_network *network) {
  free(network->pixel_codes);
  network->pixel_codes = NULL;
}
