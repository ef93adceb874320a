/* Positions and words of docs/spec/streams.md: the same as FoldSpec and LinearSpec of bitloom/program/inputs.py. */
#include <string.h>

#include "bitloom.h"

/* Sizes are at most this, so that no product below overflows 64 bits. */
static const uint64_t kLimit = (uint64_t)1 << 40;

static uint64_t flat(const struct bitloom_linear *l, uint32_t y, uint32_t x) {
  if (!l->split) return (uint64_t)y * l->pitch + x;
  return (uint64_t)(2 * (y & 1) + (x & 1)) * l->phase_pixels + (uint64_t)(y >> 1) * l->pitch + (x >> 1);
}

/* Fills `bytes`; false when a size is zero or positions and channels lie outside. */
int bitloom_linear_check(struct bitloom_linear *l) {
  uint64_t channels = 0, chunks = 0;
  if (l->word_bytes == 0 || l->word_bytes > 4096 || l->shape[0] == 0 || l->shape[1] == 0 || l->shape[2] == 0) return false;
  for (uint32_t i = 0; i < l->n_segments; ++i) {
    channels += l->segments[i];
    chunks += ((uint64_t)l->segments[i] + l->word_bytes - 1) / l->word_bytes;
  }
  l->bytes = chunks * l->words * l->word_bytes;
  if (channels != l->shape[0] || chunks * l->words > kLimit || l->bytes > kLimit) return false;
  for (uint32_t y = l->shape[1] > 1 ? l->shape[1] - 2 : 0; y < l->shape[1]; ++y)
    for (uint32_t x = l->shape[2] > 1 ? l->shape[2] - 2 : 0; x < l->shape[2]; ++x)
      if (flat(l, y, x) >= l->words) return false;
  return true;
}

int bitloom_fold_check(const struct bitloom_fold *f, uint64_t *bytes) {
  *bytes = (uint64_t)f->units * f->unit_bytes;
  return f->step > 0 && f->shape[0] > 0 && f->shape[1] > 0 && f->shape[2] > 0 && *bytes > 0 && *bytes <= kLimit &&
         (uint64_t)f->step * f->step <= f->unit_bytes / f->shape[0] && (uint64_t)f->rows * f->pitch <= f->units;
}

void bitloom_fold_image(const struct bitloom_fold *f, const int8_t *codes, uint8_t *to) {
  const uint32_t channels = f->shape[0], height = f->shape[1], width = f->shape[2];
  memset(to, 0, (size_t)f->units * f->unit_bytes);
  for (uint32_t row = 0; row < f->rows; ++row)
    for (uint32_t column = 0; column < f->pitch; ++column) {
      uint8_t *unit = to + ((size_t)row * f->pitch + column) * f->unit_bytes;
      for (uint32_t sy = 0; sy < f->step; ++sy)
        for (uint32_t sx = 0; sx < f->step; ++sx) {
          const int64_t y = (int64_t)row * f->step + sy - f->top, x = (int64_t)column * f->step + sx - f->left;
          const bool inside = y >= 0 && y < height && x >= 0 && x < width;
          for (uint32_t c = 0; c < channels; ++c)
            *unit++ = inside ? (uint8_t)codes[((size_t)c * height + (size_t)y) * width + (size_t)x]
                             : (uint8_t)f->zero_point;
        }
    }
}

/* Every code in (channel, row, column) order, to its byte of the tensor or from it. */
static void walk(const struct bitloom_linear *l, uint32_t first, uint32_t rows, const uint8_t *from, uint8_t *to,
                 const int8_t *in, int8_t *out) {
  uint64_t slot = 0;
  size_t at = 0;
  for (uint32_t segment = 0; segment < l->n_segments; ++segment) {
    for (uint32_t i = 0; i < l->segments[segment]; ++i, ++slot) {
      const uint64_t chunk = slot / l->word_bytes * l->words, byte = slot % l->word_bytes;
      for (uint32_t y = first; y < first + rows; ++y)
        for (uint32_t x = 0; x < l->shape[2]; ++x, ++at) {
          const uint64_t place = (chunk + flat(l, y, x)) * l->word_bytes + byte;
          if (to != NULL) to[place] = (uint8_t)in[at];
          else out[at] = (int8_t)from[place];
        }
    }
    slot = (slot + l->word_bytes - 1) / l->word_bytes * l->word_bytes;
  }
}

void bitloom_linear_write(const struct bitloom_linear *l, const int8_t *codes, uint8_t *to) {
  memset(to, 0, (size_t)l->bytes);
  walk(l, 0, l->shape[1], NULL, to, codes, NULL);
}

void bitloom_linear_read(const struct bitloom_linear *l, uint32_t first, uint32_t rows, const uint8_t *from,
                         int8_t *codes) {
  walk(l, first, rows, from, NULL, NULL, codes);
}
