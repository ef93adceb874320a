/* Runs images on the accelerator and prints classes and counters; usage below. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitloom_session.h"

static const char kUsage[] =
    "usage: bitloom_run [OPTIONS] PROGRAM IMAGE...      (as many images as the program's batch)\n"
    "       bitloom_run --check PROGRAM                 (no hardware needed)\n"
    "IMAGE: a binary PPM or PGM file of the network's size (needs --network), or raw codes, int8 [channel][row][column]\n"
    "  --network FILE     network.json beside the program: what pixels are as codes, what output codes are worth\n"
    "  --where TEXT       the back end's devices; for Linux \"UIO,BUFFER\", default \"bitloom,udmabuf-bitloom\"\n"
    "  --expect FILE      raw codes of the expected result, all images; a difference ends with exit code 1\n"
    "  --out FILE         writes the result's raw codes\n"
    "  --top N            classes to print (5)\n"
    "  --repeat N         runs (1)\n"
    "  --timeout-ms N     of a run (1000)\n";

struct options {
  const char *network, *where, *expect, *out, *program, **images;
  unsigned long top, repeat, timeout_ms;
  int n_images;
  bool check;
};

static bool parse(int argc, char **argv, const char **images, struct options *o) {
  const struct {
    const char *name;
    const char **text;
    unsigned long *number;
  } kinds[] = {{"--network", &o->network, NULL}, {"--where", &o->where, NULL},
               {"--expect", &o->expect, NULL},   {"--out", &o->out, NULL},
               {"--top", NULL, &o->top},         {"--repeat", NULL, &o->repeat},
               {"--timeout-ms", NULL, &o->timeout_ms}};
  *o = (struct options){.top = 5, .repeat = 1, .timeout_ms = 1000, .images = images};
  for (int i = 1; i < argc; ++i) {
    size_t k = 0;
    while (k < sizeof kinds / sizeof *kinds && strcmp(argv[i], kinds[k].name) != 0) ++k;
    if (strcmp(argv[i], "--check") == 0) {
      o->check = true;
    } else if (k < sizeof kinds / sizeof *kinds) {
      char *end = NULL;
      if (++i == argc) return false;
      if (kinds[k].text != NULL) *kinds[k].text = argv[i];
      else *kinds[k].number = strtoul(argv[i], &end, 10);
      if (end != NULL && (*end != '\0' || end == argv[i])) return false;
    } else if (strncmp(argv[i], "--", 2) == 0) {
      return false;
    } else if (o->program == NULL) {
      o->program = argv[i];
    } else {
      images[o->n_images++] = argv[i];
    }
  }
  return o->program != NULL && o->repeat > 0 && (o->check ? o->n_images == 0 : o->n_images > 0);
}

/* The next number of a PNM header; 0 when there is none. */
static unsigned long pnm_number(const uint8_t *data, uint64_t bytes, uint64_t *at) {
  unsigned long value = 0;
  while (*at < bytes && (isspace(data[*at]) || data[*at] == '#'))
    if (data[(*at)++] == '#')
      while (*at < bytes && data[*at] != '\n') ++*at;
  while (*at < bytes && isdigit(data[*at]) && value < 1000000) value = value * 10 + (unsigned long)(data[(*at)++] - '0');
  return value;
}

/* A picture through the table of pixel codes. */
static int picture(const char *path, const uint8_t *data, uint64_t bytes, const struct bitloom_network *network,
                   int8_t *codes, struct bitloom_error *error) {
  const uint32_t *shape = network->shape;
  const uint32_t channels = data[1] == '6' ? 3 : 1;
  uint64_t at = 2;
  const unsigned long width = pnm_number(data, bytes, &at), height = pnm_number(data, bytes, &at);
  const unsigned long most = pnm_number(data, bytes, &at);
  ++at; /* one blank before the pixels */
  if (network->pixel_codes == NULL)
    return bitloom_fail(error, BITLOOM_E_ARGUMENT,
                        "'%s' is a picture, but how pixels become codes is not known; give --network, or raw codes", path);
  if (channels != shape[0] || height != shape[1] || width != shape[2] || most != 255)
    return bitloom_fail(error, BITLOOM_E_ARGUMENT,
                        "'%s' has %" PRIu32 " channels of %lu x %lu pixels up to %lu; the network takes %" PRIu32 " of %" PRIu32
                        " x %" PRIu32 " up to 255: resize it",
                        path, channels, width, height, most, shape[0], shape[2], shape[1]);
  const size_t pixels = (size_t)width * height;
  if (at > bytes || bytes - at < pixels * channels)
    return bitloom_fail(error, BITLOOM_E_FILE, "'%s' is truncated", path);
  for (size_t i = 0; i < pixels; ++i)
    for (uint32_t c = 0; c < channels; ++c) codes[c * pixels + i] = network->pixel_codes[256 * c + data[at + i * channels + c]];
  return BITLOOM_OK;
}

static int load_image(const char *path, const struct bitloom_network *network, size_t size, int8_t *codes,
                      struct bitloom_error *error) {
  uint64_t bytes = 0;
  uint8_t *data = bitloom_read_file(path, &bytes, error);
  if (data == NULL) return error->status;
  if (bytes == size) memcpy(codes, data, size);
  else if (bytes > 2 && data[0] == 'P' && (data[1] == '5' || data[1] == '6'))
    picture(path, data, bytes, network, codes, error);
  else
    bitloom_fail(error, BITLOOM_E_ARGUMENT, "'%s' has %" PRIu64 " bytes; an image of codes has %zu, a picture is PPM or PGM",
                 path, bytes, size);
  free(data);
  return error->status;
}

static void print_top(const int8_t *codes, size_t count, unsigned long top, const struct bitloom_network *network) {
  bool *shown = calloc(count, sizeof *shown);
  for (unsigned long rank = 0; shown != NULL && rank < top && rank < count; ++rank) {
    size_t best = count;
    for (size_t i = 0; i < count; ++i)
      if (!shown[i] && (best == count || codes[i] > codes[best])) best = i;
    shown[best] = true;
    printf("  class %zu  code %d", best, codes[best]);
    if (network->output_scale != 0) printf("  value %.6g", (codes[best] - network->output_zero_point) * network->output_scale);
    printf("\n");
  }
  free(shown);
}

static int compare(const char *path, const int8_t *codes, size_t count, struct bitloom_error *error) {
  uint64_t bytes = 0;
  size_t wrong = 0, first = 0;
  uint8_t *data = bitloom_read_file(path, &bytes, error);
  if (data == NULL) return error->status;
  for (size_t i = count; bytes == count && i-- > 0;)
    if ((int8_t)data[i] != codes[i]) ++wrong, first = i;
  if (bytes != count)
    bitloom_fail(error, BITLOOM_E_ARGUMENT, "'%s' has %" PRIu64 " codes, the result %zu", path, bytes, count);
  else if (wrong != 0)
    bitloom_fail(error, BITLOOM_E_HARDWARE, "%zu of %zu codes differ from '%s', the first is code %zu: %d, not %d", wrong, count,
                 path, first, codes[first], (int8_t)data[first]);
  else printf("equal to %s: %zu codes\n", path, count);
  free(data);
  return error->status;
}

static int work(const struct options *o, struct bitloom_session *session, struct bitloom_network *network,
                struct bitloom_error *error) {
  uint32_t in[4], out[4], counters[BITLOOM_COUNTERS];
  bitloom_session_shapes(session, in, out);
  if (o->network != NULL &&
      bitloom_network_read(network, o->network, bitloom_session_program(session), error) != BITLOOM_OK)
    return error->status;
  if ((uint32_t)o->n_images != in[0])
    return bitloom_fail(error, BITLOOM_E_ARGUMENT, "%d images for a program of batch %" PRIu32 "; give %" PRIu32, o->n_images,
                        in[0], in[0]);
  const size_t in_size = (size_t)in[1] * in[2] * in[3], out_size = (size_t)out[1] * out[2] * out[3];
  int8_t *input = malloc(in_size * in[0]), *output = malloc(out_size * out[0]);
  if (input == NULL || output == NULL) bitloom_fail(error, BITLOOM_E_SYSTEM, "no memory for images");
  for (int i = 0; error->status == BITLOOM_OK && i < o->n_images; ++i)
    load_image(o->images[i], network, in_size, input + (size_t)i * in_size, error);
  for (unsigned long run = 0; error->status == BITLOOM_OK && run < o->repeat; ++run) {
    if (bitloom_session_run(session, input, output, o->timeout_ms * UINT64_C(1000), counters, error) != BITLOOM_OK) break;
    for (int i = 0; i < o->n_images; ++i) {
      printf("image %s\n", o->images[i]);
      print_top(output + (size_t)i * out_size, out_size, o->top, network);
    }
    for (uint32_t i = 0; i < BITLOOM_COUNTERS; ++i) printf("%s %" PRIu32 "\n", bitloom_counter_name(i), counters[i]);
    if (o->expect != NULL) compare(o->expect, output, out_size * out[0], error);
  }
  FILE *file = error->status == BITLOOM_OK && o->out != NULL ? fopen(o->out, "wb") : NULL;
  if (error->status == BITLOOM_OK && o->out != NULL &&
      (file == NULL || fwrite(output, 1, out_size * out[0], file) != out_size * out[0]))
    bitloom_fail(error, BITLOOM_E_SYSTEM, "cannot write '%s'", o->out);
  if (file != NULL) fclose(file);
  free(input);
  free(output);
  return error->status;
}

int main(int argc, char **argv) {
  struct options options;
  struct bitloom_error error = {0};
  struct bitloom_network network = {0};
  const char **images = calloc((size_t)argc + 1, sizeof *images);
  if (images == NULL || !parse(argc, argv, images, &options)) {
    fputs(kUsage, stderr);
    free(images);
    return 2;
  }
  if (options.check) {
    if (bitloom_check_file(options.program, &error) == BITLOOM_OK) printf("%s: whole and consistent\n", options.program);
  } else {
    struct bitloom_session *session = bitloom_session_open(options.program, options.where, &error);
    if (session != NULL) work(&options, session, &network, &error);
    bitloom_network_free(&network);
    bitloom_session_close(session);
  }
  free(images);
  if (error.status != BITLOOM_OK) fprintf(stderr, "bitloom_run: %s\n", error.text);
  return error.status == BITLOOM_OK ? 0 : 1;
}
