/* The pixels of a baseline JPEG file in some rows and columns, with the bits of libjpeg-turbo (JDCT_IFAST, fancy
 * upsampling), for Python threads.
 *
 * Every code must be read, but only blocks that hold these pixels are transformed, and a strip of blocks is in memory.
 * jpeg_pixels.py has read the header. Every read here is within the file: see `more`. What libjpeg would refuse, warn
 * of or repair ends the function with 0, and libjpeg decodes the file.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#else
#define INLINE static inline
#define restrict __restrict
#define LIKELY(condition) (condition)
#endif

typedef struct { /* as in jpeg_pixels.py */
    int32_t width, height, components;
    int32_t across, down; /* pixels for each sample of colour: 1 or 2 */
    int32_t restart;      /* units (MCU) between restart markers; 0 without them */
    int32_t dc[3], ac[3]; /* tables of the components, 0 to 3 and 4 to 7 */
    uint16_t steps[3][64];
    uint8_t counts[8][16], symbols[8][256];
} Header;

#define LOOK 11            /* bits of a code, and of the value after it, that one look decodes */
#define SKIP 12            /* bits of the codes, and of the values after them, that one look skips */
#define SLOW 128           /* places that end the quick loops */
#define END 256            /* end of a block, added to places */
#define CHUNK 16384        /* bytes without stuffing that are read at once */
#define UNIT_BYTES 1536    /* more than 6 blocks of 64 codes, each of 16 bits with 15 bits of value */

typedef struct {
    uint32_t look[1 << LOOK]; /* value (16 bits), places before it (8 bits), length (8 bits): 0 for none */
    uint32_t skip[1 << SKIP]; /* places (16 bits), length (8 bits) */
    int32_t limits[17];       /* first code of 16 bits that is longer */
    int32_t shifts[17];
    const uint8_t *symbols;
} Table;

typedef struct {
    uint64_t bits; /* the next ones, from the top */
    int32_t count; /* at least so many of them are there */
    const uint8_t *next;
} Reader;

typedef struct {
    Reader reader;
    const uint8_t *data, *data_end;       /* of the file, from here on */
    uint8_t *chunk, *chunk_end, *careful; /* behind `careful`, a unit may not be complete */
    int marker;                           /* the data end at a marker; 0 while they continue */
} Source;

static const uint8_t NATURAL[64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

/* AAN's factors of the DCT, times 2 to the power of 14: those of one dimension multiplied. */
static const uint16_t FACTORS[64] = {
    16384, 22725, 21407, 19266, 16384, 12873, 8867,  4520,  22725, 31521, 29692, 26722, 22725, 17855, 12299, 6270,
    21407, 29692, 27969, 25172, 21407, 16819, 11585, 5906,  19266, 26722, 25172, 22654, 19266, 15137, 10426, 5315,
    16384, 22725, 21407, 19266, 16384, 12873, 8867,  4520,  12873, 17855, 16819, 15137, 12873, 10114, 6967,  3552,
    8867,  12299, 11585, 10426, 8867,  6967,  4799,  2446,  4520,  6270,  5906,  5315,  4520,  3552,  2446,  1247,
};

/* The data */

INLINE uint64_t big_endian(const uint8_t *at)
{
    return (uint64_t)at[0] << 56 | (uint64_t)at[1] << 48 | (uint64_t)at[2] << 40 | (uint64_t)at[3] << 32 |
           (uint64_t)at[4] << 24 | (uint64_t)at[5] << 16 | (uint64_t)at[6] << 8 | at[7];
}

/* Make 56 bits available, more than a code and its value have. */
INLINE void refill(Reader *reader)
{
    reader->bits |= big_endian(reader->next) >> reader->count;
    reader->next += (63 - reader->count) >> 3;
    reader->count |= 56;
}

INLINE void drop(Reader *reader, int32_t length)
{
    reader->bits <<= length;
    reader->count -= length;
}

/* Return the bits that are left, below 0 if more than all were used; only when the data end at a marker. */
static int64_t left(const Source *source)
{
    return 8 * (int64_t)(source->chunk_end - source->reader.next) + source->reader.count;
}

/* Continue the chunk, without the zeros that are stuffed behind bytes of 255. Return 0 if the unit before was cut. */
static int more(Source *source)
{
    if (source->marker)
        return left(source) >= 0;
    int64_t rest = source->chunk_end - source->reader.next;
    memmove(source->chunk, source->reader.next, (size_t)rest);
    uint8_t *to = source->chunk + rest, *end = source->chunk + CHUNK;
    const uint8_t *from = source->data;
    source->reader.next = source->chunk;
    while (to < end && from < source->data_end) {
        size_t length = (size_t)(source->data_end - from);
        if (length > (size_t)(end - to))
            length = (size_t)(end - to);
        const uint8_t *found = memchr(from, 255, length);
        if (found)
            length = (size_t)(found - from);
        memcpy(to, from, length);
        to += length, from += length;
        if (!found)
            continue;
        if (source->data_end - from < 2)
            break;
        if (from[1]) {
            source->marker = from[1];
            break;
        }
        *to++ = 255, from += 2;
    }
    source->data = from;
    source->chunk_end = to;
    if (!source->marker && to < end)
        return 0; /* the file ends */
    source->careful = to - UNIT_BYTES;
    if (source->marker)
        memset(to, 0, 2 * UNIT_BYTES);
    return 1;
}

/* Begin to read behind the marker. */
static int begin(Source *source)
{
    source->marker = 0;
    source->chunk_end = source->chunk;
    source->reader = (Reader){0, 0, source->chunk};
    return more(source);
}

/* Return whether the data end here, at this marker, and continue behind it. */
static int ends_at(Source *source, int marker)
{
    while (!source->marker)
        if (source->reader.next <= source->careful || !more(source))
            return 0;
    int64_t rest = left(source);
    source->data += 2;
    return rest >= 0 && rest < 8 && source->marker == marker;
}

/* Codes */

INLINE int32_t extended(uint32_t value, int32_t size) /* the value of `size` bits, 1 to 15 */
{
    return value >> (size - 1) ? (int32_t)value : (int32_t)value - (1 << size) + 1;
}

/* Return the length of the first code and its symbol: 0 if there is no such code. */
INLINE int32_t find_code(const Table *table, uint64_t bits, int32_t length, int32_t *symbol)
{
    int32_t code = (int32_t)(bits >> 48);
    while (length <= 16 && code >= table->limits[length])
        length++;
    if (length > 16)
        return 0;
    *symbol = table->symbols[(code >> (16 - length)) + table->shifts[length]];
    return length;
}

/* Return an entry of `look`, with a length that may be up to 31. */
static uint32_t decoded(const Table *table, uint64_t bits, int32_t first, int dc)
{
    int32_t symbol, length = find_code(table, bits, first, &symbol);
    int32_t size = dc ? symbol : symbol & 15, run = dc ? 0 : symbol >> 4;
    if (!length)
        return 0;
    if (!size) /* no difference, the end of the block, 16 zeros, or a code of progressive files */
        return dc || run == 15 ? (uint32_t)(run << 8 | length) : run ? 0 : (uint32_t)(SLOW << 8 | length);
    int32_t value = extended((uint32_t)(bits << length >> (64 - size)), size);
    return (uint32_t)(uint16_t)value << 16 | (uint32_t)(run << 8 | (length + size));
}

/* Fill a table as libjpeg does; return 0 if it would refuse it. */
static int fill(Table *table, const uint8_t counts[16], const uint8_t symbols[256], int dc)
{
    int32_t code = 0, total = 0;
    table->symbols = symbols;
    for (int length = 1; length <= 16; length++, code <<= 1) {
        table->shifts[length] = total - code;
        code += counts[length - 1], total += counts[length - 1];
        if (code > (1 << length) - (counts[length - 1] > 0) || total > 256)
            return 0;
        table->limits[length] = code << (16 - length);
    }
    for (int number = 0; dc && number < total; number++)
        if (symbols[number] > 15)
            return 0;
    for (uint32_t index = 0; index < 1 << LOOK; index++) {
        uint32_t entry = decoded(table, (uint64_t)index << (64 - LOOK), 1, dc);
        table->look[index] = (entry & 255) <= LOOK ? entry : 0;
    }
    for (uint32_t index = 0; !dc && index < 1 << SKIP; index++) {
        uint32_t places = 0, length = 0;
        while (places < 64 && length < SKIP) {
            uint32_t entry = table->look[(uint64_t)index << (64 - SKIP + length) >> (64 - LOOK)];
            if (!entry || length + (entry & 255) > SKIP)
                break;
            length += entry & 255;
            places += (entry >> 8 & 255) == SLOW ? END : (entry >> 8 & 255) + 1;
        }
        table->skip[index] = length ? places << 8 | length : SLOW << 8;
    }
    return 1;
}

/* Return the difference of a block's first coefficient; a length of 0 is an error. */
INLINE int32_t read_dc(Reader *reader, const Table *table, int *good)
{
    refill(reader);
    uint32_t entry = table->look[reader->bits >> (64 - LOOK)];
    if (!LIKELY(entry)) {
        entry = decoded(table, reader->bits, 1, 1);
        *good &= entry != 0;
    }
    drop(reader, entry & 255);
    return (int16_t)(entry >> 16);
}

/* Read the other coefficients of a block, times their steps; return 0 for an error, 1 if there are none, or 2. */
INLINE int read_ac(Reader *reader, const Table *table, const int16_t *steps, int16_t *block)
{
    uint32_t place = 1;
    for (;;) {
        refill(reader);
        uint32_t entry = table->look[reader->bits >> (64 - LOOK)];
        if (!LIKELY(entry) && !(entry = decoded(table, reader->bits, 1, 0)))
            return 0;
        drop(reader, entry & 255);
        uint32_t at = place + (entry >> 8 & 255);
        if (at > 63) {
            if ((entry >> 8 & 255) != SLOW)
                return 0;
            return place > 1 ? 2 : 1;
        }
        block[NATURAL[at]] = (int16_t)((uint32_t)(int32_t)(int16_t)(entry >> 16) * (uint32_t)steps[at]);
        place = at + 1;
        if (place == 64)
            return 2;
    }
}

/* Skip the other coefficients of a block; return 0 for an error. */
INLINE int skip_ac(Reader *reader, const Table *table)
{
    uint32_t place = 1;
    for (;;) {
        refill(reader);
        uint32_t entry = table->skip[reader->bits >> (64 - SKIP)];
        uint32_t after = place + (entry >> 8);
        if (!LIKELY(after < 64)) {
            if (after == 64 || (after > END && after < END + 64)) {
                drop(reader, entry & 255);
                return 1;
            }
            if (!(entry = decoded(table, reader->bits, 1, 0))) /* one by one: a code is long, or of the next block */
                return 0;
            uint32_t run = entry >> 8 & 255;
            after = place + run + 1;
            if (run == SLOW || after == 64) {
                drop(reader, entry & 255);
                return 1;
            }
            if (after > 64)
                return 0;
        }
        drop(reader, entry & 255);
        place = after;
    }
}

/* Blocks */

#define HIGH(value, factor) ((int16_t)((int32_t)(int16_t)((uint32_t)(value) << 2) * (factor) >> 16))
#define SHORT(value) ((int16_t)(value))

/* One dimension of the inverse DCT, of 8 lines of 8 values; differences are those of 16 bits, as in vector code. */
INLINE void transform(const int16_t *restrict in, int16_t *restrict out)
{
    for (int i = 0; i < 8; i++) {
        int16_t even = SHORT(in[i] + in[i + 32]), odd = SHORT(in[i] - in[i + 32]);
        int16_t sum = SHORT(in[i + 16] + in[i + 48]);
        int16_t difference = SHORT(HIGH(SHORT(in[i + 16] - in[i + 48]), 362 << 6) - sum);
        int16_t a = SHORT(even + sum), d = SHORT(even - sum);
        int16_t b = SHORT(odd + difference), c = SHORT(odd - difference);
        int16_t z13 = SHORT(in[i + 40] + in[i + 24]), z10 = SHORT(in[i + 40] - in[i + 24]);
        int16_t z11 = SHORT(in[i + 8] + in[i + 56]), z12 = SHORT(in[i + 8] - in[i + 56]);
        int16_t h = SHORT(z11 + z13), z5 = HIGH(SHORT(z10 + z12), 473 << 6);
        int16_t g = SHORT(SHORT(HIGH(z10, -413 * 64) - z10) + z5 - h);
        int16_t f = SHORT(HIGH(SHORT(z11 - z13), 362 << 6) - g);
        int16_t e = SHORT(HIGH(z12, 277 << 6) - z5 + f);
        out[i] = SHORT(a + h), out[i + 56] = SHORT(a - h);
        out[i + 8] = SHORT(b + g), out[i + 48] = SHORT(b - g);
        out[i + 16] = SHORT(c + f), out[i + 40] = SHORT(c - f);
        out[i + 32] = SHORT(d + e), out[i + 24] = SHORT(d - e);
    }
}

INLINE void shuffle(const int16_t *restrict in, int16_t *restrict out) /* a third of a transposition */
{
    for (int i = 0; i < 32; i++)
        out[2 * i] = in[i], out[2 * i + 1] = in[i + 32];
}

/* Write the samples of a block, column by column. */
static void inverse(const int16_t *block, uint8_t *samples)
{
    int16_t one[64], other[64];
    transform(block, one);
    shuffle(one, other);
    shuffle(other, one);
    shuffle(one, other);
    transform(other, one);
    for (int i = 0; i < 64; i++) {
        int16_t value = one[i] >> 5;
        value = value < -128 ? -128 : value > 127 ? 127 : value;
        samples[i] = (uint8_t)(value + 128);
    }
}

typedef struct {
    int32_t blocks, lines;   /* of a unit: across, down */
    int32_t width, height;   /* samples */
    int32_t total;           /* blocks in a line of units */
    const Table *dc, *ac;
    int16_t steps[64];
    uint8_t *rows, *columns; /* flags of lines and columns of blocks that hold pixels */
    uint8_t *samples;        /* two lines of units, block by block */
    int32_t last;            /* DC */
} Component;

INLINE uint8_t *line_of(const Component *part, int32_t y) /* the samples of a line of pixels */
{
    int32_t line = (y >> 3) & (2 * part->lines - 1);
    return part->samples + (size_t)line * (size_t)part->total * 64 + (y & 7);
}

static int read_block(Reader *reader, Component *part, int32_t row, int32_t column)
{
    int good = 1;
    part->last += read_dc(reader, part->dc, &good);
    if (!good || part->last < INT16_MIN || part->last > INT16_MAX)
        return 0;
    if (!part->rows[row] || !part->columns[column])
        return skip_ac(reader, part->ac);
    int16_t block[64] = {0};
    block[0] = (int16_t)((uint32_t)part->last * (uint32_t)part->steps[0]);
    uint8_t *samples = line_of(part, 8 * row) + 64 * (size_t)column;
    int kind = read_ac(reader, part->ac, part->steps, block);
    if (kind == 2)
        inverse(block, samples);
    else {
        int32_t value = block[0] >> 5;
        memset(samples, (value < -128 ? -128 : value > 127 ? 127 : value) + 128, 64);
    }
    return kind;
}

/* Pixels */

INLINE int32_t clamped(int32_t value, int32_t highest) { return value < 0 ? 0 : value > highest ? highest : value; }

typedef struct { /* of a column of pixels: the places of its samples in a line, and the rounding of colours */
    int32_t luma, near, far, half;
} Place;

static void write_row(const Component *parts, const Header *header, int32_t y, const Place *places, int32_t count,
                      uint8_t *out)
{
    const uint8_t *luma = line_of(parts, y);
    if (header->components == 1) {
        for (int32_t i = 0; i < count; i++)
            out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = luma[places[i].luma];
        return;
    }
    int32_t own = y / header->down, other = header->down == 1 ? own : own + (y & 1 ? 1 : -1);
    other = clamped(other, parts[1].height - 1);
    const uint8_t *blues[2] = {line_of(parts + 1, own), line_of(parts + 1, other)};
    const uint8_t *reds[2] = {line_of(parts + 2, own), line_of(parts + 2, other)};
    int32_t half = header->across == 1 && header->down == 2 ? (y & 1 ? 8 : 4) : 0;
    for (int32_t i = 0; i < count; i++) {
        Place place = places[i];
        int32_t blue = 3 * (3 * blues[0][place.near] + blues[1][place.near]);
        int32_t red = 3 * (3 * reds[0][place.near] + reds[1][place.near]);
        blue += 3 * blues[0][place.far] + blues[1][place.far];
        red += 3 * reds[0][place.far] + reds[1][place.far];
        blue = ((blue + place.half + half) >> 4) - 128;
        red = ((red + place.half + half) >> 4) - 128;
        int32_t light = luma[place.luma];
        out[3 * i] = (uint8_t)clamped(light + ((91881 * red + 32768) >> 16), 255);
        out[3 * i + 1] = (uint8_t)clamped(light + ((-22554 * blue - 46802 * red + 32768) >> 16), 255);
        out[3 * i + 2] = (uint8_t)clamped(light + ((116130 * blue + 32768) >> 16), 255);
    }
}

static int32_t place_in_line(int32_t x) { return (x >> 3) * 64 + (x & 7) * 8; }

/* Mark the blocks of the samples that these pixels need, with the neighbours that upsampling reads. */
static void mark(uint8_t *flags, const int32_t *pixels, int32_t count, int32_t factor, int32_t samples)
{
    for (int32_t i = 0; i < count; i++)
        for (int32_t side = 1 - factor; side < factor; side++)
            flags[clamped(pixels[i] / factor + side, samples - 1) >> 3] = 1;
}

static int decode(const Header *header, Source *source, Component *parts, const int32_t *rows, const int32_t *targets,
                  int32_t row_count, const Place *places, int32_t column_count, uint8_t *out)
{
    int32_t lines = parts->lines, across = parts->total / parts->blocks;
    int32_t down = (header->height + 8 * lines - 1) / (8 * lines), written = 0, until = header->restart, number = 0;
    if (!begin(source))
        return 0;
    for (int32_t y = 0; y < down; y++) {
        for (int32_t x = 0; x < across; x++) {
            if (header->restart && !until--) {
                if (!ends_at(source, 0xD0 + number) || !begin(source))
                    return 0;
                number = (number + 1) & 7, until = header->restart - 1;
                for (int part = 0; part < header->components; part++)
                    parts[part].last = 0;
            }
            if (source->reader.next > source->careful && !more(source))
                return 0;
            Reader reader = source->reader;
            for (Component *part = parts; part < parts + header->components; part++)
                for (int32_t line = 0; line < part->lines; line++)
                    for (int32_t block = 0; block < part->blocks; block++)
                        if (!read_block(&reader, part, y * part->lines + line, x * part->blocks + block))
                            return 0;
            source->reader = reader;
        }
        /* the last row of a line of units needs colours of the next one */
        int32_t end = y + 1 == down ? header->height : 8 * lines * (y + 1) - (header->down - 1);
        for (; written < row_count && rows[written] < end; written++)
            write_row(parts, header, rows[written], places, column_count,
                      out + 3 * (size_t)column_count * (size_t)targets[written]);
    }
    return ends_at(source, 0xD9);
}

/* Write the pixels of rows and columns, which are in the image, as (rows, columns, 3). Rows increase, and are written
 * to the lines `targets`. Return 1, or 0 if it is not possible. */
EXPORT int32_t embedonce_jpeg_pixels(const uint8_t *data, int64_t start, int64_t end, const Header *header,
                                     const int32_t *rows, const int32_t *targets, int32_t row_count,
                                     const int32_t *columns, int32_t column_count, uint8_t *out)
{
    Component parts[3];
    int32_t units_across = (header->width + 8 * header->across - 1) / (8 * header->across);
    int32_t units_down = (header->height + 8 * header->down - 1) / (8 * header->down);
    size_t size = 0;
    memset(parts, 0, sizeof parts);
    for (int number = 0; number < header->components; number++) {
        Component *part = parts + number;
        int32_t across = number ? header->across : 1, down = number ? header->down : 1;
        part->blocks = number ? 1 : header->across, part->lines = number ? 1 : header->down;
        part->width = (header->width + across - 1) / across, part->height = (header->height + down - 1) / down;
        part->total = units_across * part->blocks;
        for (int i = 0; i < 64; i++)
            part->steps[i] = (int16_t)((header->steps[number][i] * (uint32_t)FACTORS[NATURAL[i]] + (1 << 11)) >> 12);
        size += (size_t)part->total * (128 * (size_t)part->lines + 1) + (size_t)units_down * (size_t)part->lines;
        if (across == 2 && part->width <= 2)
            return 0; /* which libjpeg upsamples otherwise */
    }
    size_t tables = 2 * (size_t)header->components * sizeof(Table), pixels = (size_t)column_count * sizeof(Place);
    uint8_t *memory = calloc(1, tables + pixels + CHUNK + 2 * UNIT_BYTES + size);
    if (!memory)
        return 0;
    Table *table = (Table *)memory;
    Place *places = (Place *)(memory + tables);
    Source source = {{0, 0, NULL}, data + start, data + end, memory + tables + pixels, NULL, NULL, 0};
    uint8_t *room = source.chunk + CHUNK + 2 * UNIT_BYTES;
    int good = 1;
    for (int number = 0; number < header->components; number++) {
        Component *part = parts + number;
        int dc = header->dc[number], ac = header->ac[number];
        if (number && dc == header->dc[number - 1] && ac == header->ac[number - 1])
            part->dc = parts[number - 1].dc, part->ac = parts[number - 1].ac;
        else {
            good &= fill(table, header->counts[dc], header->symbols[dc], 1);
            good &= fill(table + 1, header->counts[ac], header->symbols[ac], 0);
            part->dc = table++, part->ac = table++;
        }
        part->samples = room, room += (size_t)part->total * 128 * (size_t)part->lines;
        part->columns = room, room += part->total;
        part->rows = room, room += units_down * part->lines;
        mark(part->rows, rows, row_count, number ? header->down : 1, part->height);
        mark(part->columns, columns, column_count, number ? header->across : 1, part->width);
    }
    for (int32_t i = 0; i < column_count; i++) {
        int32_t x = columns[i], near = x / header->across, far = header->across == 1 ? near : near + (x & 1 ? 1 : -1);
        int32_t half = header->across == 1 ? 0 : header->down == 2 ? (x & 1 ? 7 : 8) : (x & 1 ? 8 : 4);
        far = clamped(far, header->components > 1 ? parts[1].width - 1 : far);
        places[i] = (Place){place_in_line(x), place_in_line(near), place_in_line(far), half};
    }
    good = good && decode(header, &source, parts, rows, targets, row_count, places, column_count, out);
    free(memory);
    return good;
}

/* Python builds, installs and finds the library as a module; jpeg_pixels.py calls the function through ctypes. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_jpeg", .m_size = 0};

PyMODINIT_FUNC PyInit__jpeg(void) { return PyModule_Create(&definition); }
