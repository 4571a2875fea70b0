/* Single passes over features `[frame, channel]` for which torch needs several passes. cpu_kernels.py compiles them if
 * there is a compiler.
 *
 * sums[frame] is the sum of a frame's values, sums[frames + frame] the sum of their squares. The caller adds them up
 * in order, so that the result does not depend on the number of threads.
 */

#include <stdint.h>
#include <string.h>

static inline float wide_float32(float value) { return value; }
static inline float narrow_float32(float value) { return value; }

static inline float wide_bfloat16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline uint16_t narrow_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); /* round to nearest, ties to even */
}

#define FOR_EACH_FRAME _Pragma("omp parallel for schedule(static)") for (int64_t frame = 0; frame < frames; frame++)
#define FOR_EACH_CHANNEL                           \
    _Pragma("omp simd reduction(+ : sum, squares)") \
    for (int64_t channel = 0; channel < channels; channel++)

#define DEFINE(KIND, TYPE)                                                                                       \
    void moments_##KIND(const TYPE *input, int64_t frames, int64_t channels, float *sums) {                      \
        FOR_EACH_FRAME {                                                                                         \
            const TYPE *row = input + frame * channels;                                                          \
            float sum = 0, squares = 0;                                                                          \
            FOR_EACH_CHANNEL {                                                                                   \
                float value = wide_##KIND(row[channel]);                                                         \
                sum += value;                                                                                    \
                squares += value * value;                                                                        \
            }                                                                                                    \
            sums[frame] = sum;                                                                                   \
            sums[frames + frame] = squares;                                                                      \
        }                                                                                                        \
    }                                                                                                            \
                                                                                                                 \
    /* output[frame] = leaky ReLU of (bias + sum over taps of kernel[tap] * input[frame + tap * dilation]) */    \
    void depthwise_##KIND(const TYPE *input, const float *kernel, const float *bias, float slope, int64_t taps,  \
                          int64_t dilation, int64_t frames, int64_t channels, TYPE *output, float *sums) {       \
        FOR_EACH_FRAME {                                                                                         \
            const TYPE *row = input + frame * channels;                                                          \
            TYPE *result = output + frame * channels;                                                            \
            const int64_t step = dilation * channels;                                                            \
            float sum = 0, squares = 0;                                                                          \
            if (taps == 3) /* the usual number, unrolled */                                                      \
                FOR_EACH_CHANNEL {                                                                               \
                    float value = bias[channel] + kernel[channel] * wide_##KIND(row[channel])                    \
                        + kernel[channels + channel] * wide_##KIND(row[step + channel])                          \
                        + kernel[2 * channels + channel] * wide_##KIND(row[2 * step + channel]);                 \
                    value = value < 0 ? slope * value : value;                                                   \
                    sum += value;                                                                                \
                    squares += value * value;                                                                    \
                    result[channel] = narrow_##KIND(value);                                                      \
                }                                                                                                \
            else                                                                                                 \
                FOR_EACH_CHANNEL {                                                                               \
                    float value = bias[channel];                                                                 \
                    for (int64_t tap = 0; tap < taps; tap++)                                                     \
                        value += kernel[tap * channels + channel] * wide_##KIND(row[tap * step + channel]);      \
                    value = value < 0 ? slope * value : value;                                                   \
                    sum += value;                                                                                \
                    squares += value * value;                                                                    \
                    result[channel] = narrow_##KIND(value);                                                      \
                }                                                                                                \
            sums[frame] = sum;                                                                                   \
            sums[frames + frame] = squares;                                                                      \
        }                                                                                                        \
    }

DEFINE(float32, float)
DEFINE(bfloat16, uint16_t)
