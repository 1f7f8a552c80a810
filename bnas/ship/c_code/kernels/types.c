/* One value a channel; the same for all where the step is 0; or none. */
struct per_channel {
    const float *values;
    size_t step;
};
#define EACH(values) ((struct per_channel){(values), 1})
#define ALL(values) ((struct per_channel){(values), 0})
#define NONE ((struct per_channel){NULL, 0})

/* What a window goes over, and what it gives. */
struct window {
    extent height, width, channels, out_height, out_width, out_channels;
    extent rows, columns, row_stride, column_stride, row_gap, column_gap, above, left;
    extent groups;
    int16_t pad_value;
};
