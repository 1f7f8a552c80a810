"""The words of machine code for `machine.py`: what a pass, its source and each part of its chain look like.

Everything is an int64; an address is one too. A pass is PASS_WORDS words, then those of its source, then its chain: for
each part its length in words, its kind, and its own words; an END ends it.
"""

# The head of a pass.
LENGTH, SOURCE, PIXELS, WIDTH, VECTORS, PITCH, CHUNK, CHAIN, PASS_WORDS = range(9)

# Sources; NOTHING leaves it to the chain to look where the values are.
NOTHING, LOAD, CONV_BITS, CONV_REAL, MAX, MEAN, FLATTEN = range(7)

# Parts of a chain; HEAD_WORDS stand before the words of their own.
PART_LENGTH, PART_KIND, HEAD_WORDS = range(3)
END, FUSED, CLIP, SIGMOID, ADD, MULTIPLY, STORE, BITS, CHOOSE = range(9)
FUSED_BITS, FUSED_UNIT, FUSED_RESIDUAL, FUSED_EXCITED = range(9, 13)

# A view of values in memory: LOAD, ADD, MULTIPLY. From a channel on; STRAIGHT reads on, the others begin again after
# the last channel, BY_VECTOR where that is the end of a vector.
BASE, ROW, PIXEL, START, CHANNELS, WRAP = range(6)
STRAIGHT, BY_VECTOR, BY_VALUE = range(3)

# A convolution. Windows lie DOWN and RIGHT of each other; a group's input IN and its output OUT beyond that of the one
# before; its filters fill LANES. What depends on the expert is that many bytes beyond.
(
    C_BASE, C_DOWN, C_RIGHT, C_GROUPS, C_IN, C_OUT, C_LANES, C_PLACES, C_COUNT, C_WEIGHTS, C_GROUP_WEIGHTS,
    C_EXPERT_WEIGHTS, C_SHIFT, C_CHOICE, C_COMMON,
) = range(15)  # fmt: skip
(
    B_MASKS, B_ROWS, B_COLUMNS, B_STARTS, B_EXPERT_STARTS, B_SCALE, B_EXPERT_SCALE, B_KIND, B_BOX, B_BOX_MASKS,
    B_OFFSET, B_EXPERT_OFFSET, B_WORDS,
) = range(C_COMMON, C_COMMON + 13)  # fmt: skip
R_RUN, R_WORDS = C_COMMON, C_COMMON + 1

# A pooling, and what follows BASE, ROW and PIXEL of the values that it reads.
P_HEIGHT, P_WIDTH, P_ROWS, P_COLUMNS, P_DOWN, P_RIGHT, P_ABOVE, P_LEFT, P_COUNT_PADDING, P_WORDS = range(3, 13)

# A flattening, likewise.
F_HEIGHT, F_WIDTH, F_CHANNELS, F_WORDS = range(3, 7)

# What most units end with, in one go and in this order, each left out where its first word is 0: where the values are
# from, if not from the chunk; a factor, scale and shift, slope, another scale and shift, a summand, another slope;
# where the values go; where their bits go, with thresholds and flips; where their mean goes; and whether the chunk is
# to hold them too.
(
    U_FROM, U_FROM_ROW, U_FROM_PIXEL, U_FACTOR, U_FACTOR_ROW, U_FACTOR_PIXEL, U_SCALE, U_SHIFT, U_SLOPE, U_LATER_SCALE,
    U_LATER_SHIFT, U_SUMMAND, U_SUMMAND_ROW, U_SUMMAND_PIXEL, U_LATER_SLOPE, U_TO, U_TO_ROW, U_TO_PIXEL, U_BITS,
    U_BITS_ROW, U_BITS_PIXEL, U_BITS_GROUP, U_HALFWORDS, U_AT, U_FLIP, U_MEAN, U_SHARE, U_BACK, U_WORDS,
) = range(29)  # fmt: skip
U_PARTS = (U_FROM, U_FACTOR, U_SCALE, U_SLOPE, U_LATER_SCALE, U_SUMMAND, U_LATER_SLOPE, U_TO, U_BITS, U_MEAN, U_BACK)
USUAL = {  # what is there, beside U_FROM perhaps; each has code that asks no questions
    FUSED_BITS: {U_BITS},
    FUSED_UNIT: {U_SLOPE, U_SUMMAND, U_TO, U_BITS},
    FUSED_RESIDUAL: {U_SUMMAND, U_LATER_SLOPE, U_TO, U_BITS},
    FUSED_EXCITED: {U_FACTOR, U_SLOPE, U_SUMMAND, U_TO, U_BITS, U_MEAN},
}

# A store, as BASE, ROW and PIXEL, and so many whole vectors, and single values after them.
S_VECTORS, S_TAIL, S_WORDS = range(3, 6)

# Bits, likewise: groups, from one to the next in memory and in the values, halfwords of each; thresholds and flips.
T_GROUPS, T_GROUP, T_FROM, T_HALFWORDS, T_AT, T_FLIP, T_WORDS = range(3, 10)

# A choice: where it goes, and between how many.
H_TO, H_CHANNELS, H_WORDS = range(3)

# The head of all code, then the passes, then a 0: what is computed with meanwhile, and the image and the result.
(
    M_CHUNK, M_WINDOWS, M_STARTS, M_SPARE, M_CHANNELS, M_HEIGHT, M_WIDTH, M_IMAGE, M_ROW, M_PIXEL, M_RESULT, M_CLASSES,
    M_WORDS,
) = range(13)  # fmt: skip
