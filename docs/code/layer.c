/* One quantized layer, as a device runs it: integers only.

   Equations (1) to (4) are those of the page "One layer, offline and on the device". */
#include <stdint.h>

/* (3): round half up of acc * multiplier * 2^(shift - 31); the product has 62 bits */
static int32_t rescale(int32_t acc, int32_t multiplier, int32_t shift) {
  int64_t product = (int64_t)acc * multiplier;
  int64_t half = (int64_t)1 << (30 - shift);
  return (int32_t)((product + half) >> (31 - shift));
}

static uint8_t clip(int32_t q) { return q < 0 ? 0 : q > 15 ? 15 : (uint8_t)q; }

/* x: (C, H, W) uint8, w: (O, C, 3, 3) int8  ->  y: (O, H, W) uint8; padding 1 */
void layer(const uint8_t *x, int32_t zero_point, const int8_t *w, const int32_t *bias,
           const int32_t *fraction_bits, const int32_t *multiplier, const int32_t *shift,
           int32_t channels, int32_t height, int32_t width, int32_t outputs,
           uint8_t *y) {
  for (int32_t o = 0; o < outputs; o++)
    for (int32_t p = 0; p < height; p++)
      for (int32_t q = 0; q < width; q++) {
        int32_t acc = 0;
        for (int32_t c = 0; c < channels; c++)
          for (int32_t i = 0; i < 3; i++)
            for (int32_t j = 0; j < 3; j++) {
              int32_t row = p + i - 1, col = q + j - 1;
              if (row < 0 || row >= height || col < 0 || col >= width)
                continue; /* the border holds the code of zero: nothing to add */
              acc += w[((o * channels + c) * 3 + i) * 3 + j] *
                     (x[(c * height + row) * width + col] - zero_point); /* (1) */
            }
        acc = acc * (1 << fraction_bits[o]) + bias[o];                   /* (2) */
        int32_t code = rescale(acc, multiplier[o], shift[o]);            /* (3) */
        y[(o * height + p) * width + q] = clip(code);                    /* (4) */
      }
}
