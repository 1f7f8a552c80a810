static float of_channel(struct per_channel given, size_t channel, float otherwise)
{
    return given.values ? given.values[channel * given.step] : otherwise;
}

/* Pixels [channels, pixels] from 0 to 255 -> normalised values [pixels, channels]. */
static void normalise(const uint8_t *image, const float *scale, const float *shift, size_t pixels, size_t channels,
                      float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t channel = 0; channel < channels; channel++)
            *y++ = (float)image[channel * pixels + pixel] * scale[channel] - shift[channel];
}

static size_t largest(const float *x, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void threshold(const float *x, struct per_channel at, const word *flips, size_t flip_step, size_t pixels,
                      size_t channels, word *y)
{
    size_t bit = 0;
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t channel = 0; channel < channels; channel++, bit++)
            write_bit(y, bit,
                      (x[bit] >= of_channel(at, channel, 0.0F)) ^ (flips && bit_at(flips, channel * flip_step)));
}

static void affine(const float *x, struct per_channel scale, struct per_channel shift, size_t pixels, size_t channels,
                   float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t channel = 0; channel < channels; channel++)
            *y++ = of_channel(scale, channel, 1.0F) * *x++ + of_channel(shift, channel, 0.0F);
}

static void prelu(const float *x, struct per_channel slope, size_t pixels, size_t channels, float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t channel = 0; channel < channels; channel++, x++)
            *y++ = *x > 0.0F ? *x : of_channel(slope, channel, 0.0F) * *x;
}

static void clip(const float *x, float low, float high, size_t count, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

static void sigmoid(const float *x, size_t count, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = 1.0F / (1.0F + expf(-x[i]));
}

/* The second has as many pixels, `step` apart, or one for all; its first `width` channels are repeated. */
static void add(const float *x, const float *second, size_t step, size_t width, size_t pixels, size_t channels,
                float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++, second += step)
        for (size_t channel = 0, i = 0; channel < channels; channel++, i = i + 1 < width ? i + 1 : 0)
            *y++ = *x++ + second[i];
}

static void multiply(const float *x, const float *second, size_t step, size_t width, size_t pixels, size_t channels,
                     float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++, second += step)
        for (size_t channel = 0, i = 0; channel < channels; channel++, i = i + 1 < width ? i + 1 : 0)
            *y++ = *x++ * second[i];
}

/* Channels from `start` on, again from the first after the last. */
static void take_channels(const float *x, size_t start, size_t pixels, size_t channels, size_t count, float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t i = 0; i < count; i++)
            *y++ = x[pixel * channels + (start + i) % channels];
}

/* Becomes the channels from `start` on of what has `all`. */
static void put_channels(const float *x, size_t start, size_t pixels, size_t channels, size_t all, float *y)
{
    for (size_t pixel = 0; pixel < pixels; pixel++)
        memcpy(y + pixel * all + start, x + pixel * channels, channels * sizeof *x);
}

/* Pixel by pixel -> channel by channel. */
static void flatten(const float *x, size_t pixels, size_t channels, float *y)
{
    for (size_t channel = 0; channel < channels; channel++)
        for (size_t pixel = 0; pixel < pixels; pixel++)
            *y++ = x[pixel * channels + channel];
}
