"""The descriptor through which kernels see an index: one int64 array of sizes, addresses and switches.

A kernel takes the descriptor and not a dozen arrays: a call costs half as much to dispatch, one compiled form serves
every index, and what a reader holds is one immutable thing. Whoever builds a descriptor keeps alive what it points to.

A *row table* is an int64 array of chunk addresses; row `slot` of a table lies at
`table[slot >> CHUNK_SHIFT] + (slot & (rows_per_chunk - 1)) * stride`.
"""

from __future__ import annotations

# What is there
N = 0  # slots published to the holder of this descriptor; a link to a slot >= N is skipped
DIM = 1  # dimensions of a vector
CHUNK_SHIFT = 2  # log2 of the rows in a chunk
SPACE = 3  # one of SPACE_*: what exact distances mean

# float32 originals
VECTORS = 4  # address of the row table, stride 4 * DIM
INVERSE_NORMS = 5  # cosine: address of the row table of float32 1 / norm, stride 4; else 0

# Codes the graph is walked on
CODE = 6  # one of CODE_*
FORM = 7  # one of FORM_*
CODES = 8  # address of the row table (the vectors themselves for CODE_F32)
CODE_STRIDE = 9  # bytes from one code row to the next
CODE_BLOCKS = 10  # 64-byte blocks of a code row
CODE_BIAS = 11  # FORM_L2 on codes: row table of float32 squared norms of the decoded rows; else 0
CODE_MID = 12  # address of float32 (padded,): middle of each dimension's range
CODE_STEP = 13  # address of float32 (padded,): distance between two codes of a dimension, 0 where constant
CODE_PADDED = 14  # dimensions after padding to whole blocks
CODE_EXPAND = 15  # float32 bits: scale at which a stored row becomes an 8-bit query

# Graph
LINKS = 16  # row table of int32 neighbours on level 0, padded at the end with -1
LINKS_WIDTH = 17  # neighbours a level-0 row has room for
UPPER = 18  # row table of int32 neighbours on the upper levels, one row per slot and level
UPPER_WIDTH = 19  # neighbours an upper row has room for
UPPER_OFFSETS = 20  # row table of int32: row of a slot's level 1 in UPPER, -1 for none; stride 4
LEVELS = 21  # row table of uint8: top level of each slot; stride 1
ENTRY_POINT = 22  # slot where a walk starts, -1 in an empty graph
TOP_LEVEL = 23  # level of the entry point
CODE_SIGNS = (
    24  # address of float32 (ROTATION_ROUNDS, DIM) of -1 and 1: codes are of rotated vectors; 0: they are not
)

# Quantized indexes
EXACT = 25  # one of EXACT_*: what exact distances are computed from
LOW_CODES = (
    26  # EXACT_PLANES: row table of the low halves of 8-bit codes, stride CODE_STRIDE, rows laid out as CODES
)
CODE_CENTER = 27  # CODE_PQ: address of float32 (DIM,): what codes are relative to
CODE_TABLE = 28  # CODE_PQ: address of float32 (DIM, 256): what each value of its byte says of a dimension
CODE_ROWS = 29  # CODE_PQ: address of float32 (bytes, 256, CODE_WIDTH): the same by byte, to decode from
CODE_WIDTH = 30  # CODE_PQ: dimensions that one byte of a code stands for; fewer in the last one of some codes
CODE_BYTES = 31  # CODE_PQ: bytes of codes in a row, which stand behind its head
CODE_HEAD = 32  # CODE_PQ: bytes before them: float32 factor and, for FORM_L2, float32 squared length
CODE_GRID = 33  # CODE_PQ: address of uint8 (bytes, groups, 4, 4, 16, 4): CODE_TABLE in steps of CODE_STEP, 1 to 255 and
# GRID_MIDDLE at CODE_MID; dimensions in groups of four, values as `write_table_u8` in kernels/simd_products.py has
# them; 0 where tables of queries have to be more exact
CODE_DIGITS = (
    34  # CODE_PQ: address of float32 (2, DIM): what a step of each dimension's digit comes to, and what its
)
# digit 0 stands for; 0 where codes cannot be read as digits (kernels/product_digits.py)

SIZE = 40
ROTATION_ROUNDS = 2
MOST_FACTOR = 4.0  # CODE_PQ: the factor of a row is clipped to it
MOST_GRID = 127.0  # CODE_PQ: by how much CODE_GRID goes up and down from its middle
GRID_MIDDLE = 128
DIGIT_BLOCK = 64  # CODE_PQ: bytes that are read as digits at once, and the fewest that are

SPACE_COSINE, SPACE_L2, SPACE_L1, SPACE_DOT = 0, 1, 2, 3
CODE_F32, CODE_U8, CODE_U4, CODE_PQ = 0, 1, 2, 3
EXACT_ORIGINALS, EXACT_CODES, EXACT_PLANES = 0, 1, 2
FORM_DOT, FORM_L2, FORM_L1 = 0, 1, 2

# Scratch of one thread: an int64 array of addresses and sizes, never shared between two running kernels.
VISITED = 0  # uint16 per slot: the epoch in which a slot was last visited
VISITED_CAPACITY = 1
EPOCH = 2
POOL = 3  # int64 keys, sorted
POOL_CAPACITY = 4
HOP_SLOTS = 5  # int32: neighbours of one hop
HOP_DISTANCES = 6  # float32: their distances
HOP_CAPACITY = 7
QUERY_FORM = 8  # the query as the walk wants it: see kernels/distances.py
QUERY_EXACT = 9  # float32 (dim,): the query as exact distances want it
RESULTS = 10  # int64 keys, sorted: the exact nearest
PRUNE_FORM = 12  # the query form of a neighbour accepted while pruning
CHOSEN = 13  # int32: neighbours chosen by pruning
COUNT_DISTANCES = 14  # out: distances computed by the last call
COUNT_HOPS = 15  # out: rows of the graph read by the last call
WALK_SIZE = 16  # state of a walk: keys in the pool
WALK_CURSOR = 17  # the first position that may be unexpanded
WALK_COMPUTED = 18  # distances computed
HOP_KEYS = 19  # int64: keys of a hop's slots that may enter the pool
MATCHES = 20  # int64 keys, sorted: the nearest by code that match a filter
WALK_MATCHES = 21  # state of a filtered walk: keys in MATCHES

SCRATCH_SIZE = 24
POOL_MARGIN = 32  # places behind the capacity of a pool that insertions write to
# How exact a query form has to be: as codes are; right to some rounding; in the order of what is near, roughly
AS_CODED, ROUNDED, ROUGH = 0, 1, 2
WALK_ALL, WALK_FILTERED, WALK_TWO_HOP = 0, 1, 2  # modes of a walk
QUERY_HEADER = 64  # bytes before the codes of a query form
