/* Places of a window, each for all groups one after the other. */
static size_t places(const struct window *w)
{
    return (size_t)w->out_height * w->out_width * w->groups;
}

/* Values under a window in one group. */
static size_t values_seen(const struct window *w)
{
    return (size_t)w->channels / w->groups * w->rows * w->columns;
}

/* The pixel under a tap of a window at its n-th place; false in the padding. */
static int is_inside(const struct window *w, size_t place, size_t tap, size_t *pixel)
{
    const size_t down = place / w->out_width * w->row_stride + tap / w->columns * w->row_gap;
    const size_t across = place % w->out_width * w->column_stride + tap % w->columns * w->column_gap;
    if (down < w->above || down - w->above >= w->height || across < w->left || across - w->left >= w->width)
        return 0;
    *pixel = (down - w->above) * w->width + across - w->left;
    return 1;
}

/* Takes the bits under a window, and which of them count: those of padding with 0 do not. Returns how many. */
static size_t see_bits(const struct window *w, const word *x, size_t place)
{
    const size_t ins = w->channels / w->groups, taps = (size_t)w->rows * w->columns, first = place % w->groups * ins;
    const size_t bytes = (taps * ins + WORD_BITS - 1) / WORD_BITS * sizeof(word);
    size_t counted = 0, pixel;
    memset(seen_bits, 0, bytes);
    memset(counted_bits, 0, bytes);
    for (size_t tap = 0; tap < taps; tap++) {
        const int is_pixel = is_inside(w, place / w->groups, tap, &pixel);
        if (!is_pixel && !w->pad_value)
            continue;
        if (is_pixel)
            copy_bits(seen_bits, tap * ins, x, pixel * w->channels + first, ins);
        else if (w->pad_value > 0)
            set_bits(seen_bits, tap * ins, ins);
        set_bits(counted_bits, tap * ins, ins);
        counted += ins;
    }
    return counted;
}

/* The sum of what was seen, each -1 or +1. */
static int32_t sum_of_bits(size_t count, size_t counted)
{
    size_t found = 0;
    for (size_t i = 0; i < (count + WORD_BITS - 1) / WORD_BITS; i++)
        found += ones(seen_bits[i] & counted_bits[i]);
    return 2 * (int32_t)found - (int32_t)counted;
}

/* The sum of products with a filter, which begins at bit `at`: as many as count, but for twice those that differ. */
static int32_t product_of_bits(const word *filters, size_t at, size_t count, size_t counted)
{
    size_t differ = 0;
    for (size_t done = 0; done < count; done += WORD_BITS) {
        const word filter = bits_at(filters, at + done, count - done < WORD_BITS ? count - done : WORD_BITS);
        differ += ones((seen_bits[done / WORD_BITS] ^ filter) & counted_bits[done / WORD_BITS]);
    }
    return (int32_t)counted - 2 * (int32_t)differ;
}

/* Bits -> real values; `first` is the number of the first filter. */
static void conv_bits(const struct window *w, const word *x, const word *filters, size_t first,
                      struct per_channel scale, struct per_channel offset, struct per_channel bias, float *y)
{
    const size_t outs = w->out_channels / w->groups, count = values_seen(w);
    for (size_t place = 0; place < places(w); place++) {
        const size_t counted = see_bits(w, x, place);
        const float total = offset.values ? (float)sum_of_bits(count, counted) : 0.0F;
        for (size_t i = 0, out = place % w->groups * outs; i < outs; i++, out++) {
            const float sum = (float)product_of_bits(filters, (first + out) * count, count, counted);
            *y++ = of_channel(scale, out, 1.0F) * sum + of_channel(offset, out, 0.0F) * total
                + of_channel(bias, out, 0.0F);
        }
    }
}

/* Bits -> bits, by whole numbers alone. */
static void compare_bits(const struct window *w, const word *x, const word *filters, size_t first,
                         const level *levels, size_t level_step, const word *flips, size_t flip_step, word *y)
{
    const size_t outs = w->out_channels / w->groups, count = values_seen(w);
    size_t bit = 0;
    for (size_t place = 0; place < places(w); place++) {
        const size_t counted = see_bits(w, x, place);
        for (size_t i = 0, out = place % w->groups * outs; i < outs; i++, out++) {
            const int32_t sum = product_of_bits(filters, (first + out) * count, count, counted);
            write_bit(y, bit++, (sum >= levels[out * level_step]) ^ (flips && bit_at(flips, out * flip_step)));
        }
    }
}

/* Takes the values under a window; those of padding are 0. */
static void see_values(const struct window *w, const float *x, size_t place)
{
    const size_t ins = w->channels / w->groups, taps = (size_t)w->rows * w->columns, first = place % w->groups * ins;
    size_t pixel;
    for (size_t tap = 0; tap < taps; tap++) {
        if (is_inside(w, place / w->groups, tap, &pixel))
            memcpy(seen_values + tap * ins, x + pixel * w->channels + first, ins * sizeof *x);
        else
            memset(seen_values + tap * ins, 0, ins * sizeof *x);
    }
}

/* The sum of what was seen, with the signs of a filter, which begins at bit `at`. */
static float product_of_signs(const word *filters, size_t at, size_t count)
{
    float sum = 0.0F;
    for (size_t done = 0; done < count; done += WORD_BITS) {
        const size_t left = count - done < WORD_BITS ? count - done : WORD_BITS;
        word filter = bits_at(filters, at + done, left);
        for (size_t i = 0; i < left; i++, filter >>= 1)
            sum += filter & 1 ? seen_values[done + i] : -seen_values[done + i];
    }
    return sum;
}

/* Real values and filters of bits -> real values. */
static void conv_signs(const struct window *w, const float *x, const word *filters, size_t first,
                       struct per_channel scale, struct per_channel offset, struct per_channel bias, float *y)
{
    const size_t outs = w->out_channels / w->groups, count = values_seen(w);
    for (size_t place = 0; place < places(w); place++) {
        float total = 0.0F;
        see_values(w, x, place);
        for (size_t i = 0; i < count; i++)
            total += seen_values[i];
        for (size_t i = 0, out = place % w->groups * outs; i < outs; i++, out++)
            *y++ = of_channel(scale, out, 1.0F) * product_of_signs(filters, (first + out) * count, count)
                + of_channel(offset, out, 0.0F) * total + of_channel(bias, out, 0.0F);
    }
}

/* Real values and real filters -> real values. */
static void conv_values(const struct window *w, const float *x, const float *filters, size_t first,
                        struct per_channel bias, float *y)
{
    const size_t outs = w->out_channels / w->groups, count = values_seen(w);
    for (size_t place = 0; place < places(w); place++) {
        see_values(w, x, place);
        for (size_t i = 0, out = place % w->groups * outs; i < outs; i++, out++) {
            const float *const filter = filters + (first + out) * count;
            float sum = of_channel(bias, out, 0.0F);
            for (size_t tap = 0; tap < count; tap++)
                sum += filter[tap] * seen_values[tap];
            *y++ = sum;
        }
    }
}

/* How many pixels a window counts along a side where the padding counts. */
static size_t counted_along(size_t kernel, size_t side, size_t pad, size_t start)
{
    const size_t room = side + 2 * pad - start;
    return kernel < room ? kernel : room;
}

static void pool_mean(const struct window *w, int counts_padding, const float *x, float *y)
{
    size_t pixel;
    for (size_t place = 0; place < places(w); place++, y += w->channels) {
        size_t count = 0;
        memset(y, 0, w->channels * sizeof *y);
        for (size_t tap = 0; tap < (size_t)w->rows * w->columns; tap++) {
            if (!is_inside(w, place, tap, &pixel))
                continue;
            count++;
            for (size_t channel = 0; channel < w->channels; channel++)
                y[channel] += x[pixel * w->channels + channel];
        }
        if (counts_padding)
            count = counted_along(w->rows, w->height, w->above, place / w->out_width * w->row_stride)
                * counted_along(w->columns, w->width, w->left, place % w->out_width * w->column_stride);
        for (size_t channel = 0; channel < w->channels; channel++)
            y[channel] /= (float)count;
    }
}

static void pool_max(const struct window *w, const float *x, float *y)
{
    size_t pixel;
    for (size_t place = 0; place < places(w); place++, y += w->channels) {
        int is_first = 1;
        for (size_t tap = 0; tap < (size_t)w->rows * w->columns; tap++) {
            if (!is_inside(w, place, tap, &pixel))
                continue;
            for (size_t channel = 0; channel < w->channels; channel++) {
                const float value = x[pixel * w->channels + channel];
                if (is_first || value > y[channel])
                    y[channel] = value;
            }
            is_first = 0;
        }
    }
}
