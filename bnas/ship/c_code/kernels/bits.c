/* Bits lie in words, the first in the lowest bit, and nothing is padded: what is next begins at the next bit. */
#if defined(__GNUC__) && !defined(PORTABLE_POPCOUNT)
static size_t ones(word bits)
{
    return (size_t)POPCOUNT(bits);
}
#else
static size_t ones(word bits)
{
    const word all = (word)-1;
    bits -= bits >> 1 & all / 3;
    bits = (bits & all / 5) + (bits >> 2 & all / 5);
    bits = (bits + (bits >> 4)) & all / 17;
    return (size_t)(bits * (all / 255) >> (WORD_BITS - 8));
}
#endif

/* Up to a word of bits, from bit `at` on. Where they lie in one word, what comes of it twice is beyond their count. */
static word bits_at(const word *from, size_t at, size_t count)
{
    const size_t shift = at % WORD_BITS, first = at / WORD_BITS, last = (at + count - 1) / WORD_BITS;
    word bits = from[first] >> shift;
    if (shift)
        bits |= from[last] << (WORD_BITS - shift);
    return count < WORD_BITS ? bits & (((word)1 << count) - 1) : bits;
}

/* Sets, in bits that are 0, those that a word has, which has none beyond their count. */
static void add_bits(word *to, size_t at, word bits, size_t count)
{
    const size_t shift = at % WORD_BITS, first = at / WORD_BITS, last = (at + count - 1) / WORD_BITS;
    to[first] |= bits << shift;
    if (shift)
        to[last] |= bits >> (WORD_BITS - shift);
}

static void copy_bits(word *to, size_t at, const word *from, size_t start, size_t count)
{
    for (size_t done = 0; done < count; done += WORD_BITS) {
        const size_t left = count - done < WORD_BITS ? count - done : WORD_BITS;
        add_bits(to, at + done, bits_at(from, start + done, left), left);
    }
}

static void set_bits(word *to, size_t at, size_t count)
{
    for (size_t done = 0; done < count; done += WORD_BITS) {
        const size_t left = count - done < WORD_BITS ? count - done : WORD_BITS;
        add_bits(to, at + done, (word)-1 >> (WORD_BITS - left), left);
    }
}

static void write_bit(word *to, size_t at, int is_set)
{
    const word bit = (word)1 << at % WORD_BITS;
    if (is_set)
        to[at / WORD_BITS] |= bit;
    else
        to[at / WORD_BITS] &= ~bit;
}

static int bit_at(const word *from, size_t at)
{
    return (int)(from[at / WORD_BITS] >> at % WORD_BITS & 1);
}
