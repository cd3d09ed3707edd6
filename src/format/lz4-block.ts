/**
 * Compression and decompression of LZ4 blocks in memory that is used again and again. Fresh memory for each block, as a native
 * library hands it out, costs more than the work itself and piles up faster than it is collected.
 */

/** lz4-block.wat, compiled: WebAssembly is loaded synchronously and needs no native part. */
export const MODULE: string =
  'AGFzbQEAAAABFQNgBH9/f38Bf2ADf39/AGACf38BfwISAQNlbnYGbWVtb3J5AgMBgIABAwYFAAEBAAIHIAMKZGVjb21wcmVzcwAABGhhc2gAAQhjb21w' +
  'cmVzcwADCowLBbADAQd/IAIhBAJAA0AgACABTw0BIAAtAAAhBSAAQQFqIQAgBUEEdiEGIAZBD0YEQANAIAAgAU8NAyAALQAAIQcgAEEBaiEAIAYgB2oh' +
  'BiAHQf8BRg0ACwsgBiABIABrSw0BIAYgAyAEa0sNASAGQRBNBEAgBCAAKQMANwMAIAQgACkDCDcDCAUgBCAAIAb8CgAACyAAIAZqIQAgBCAGaiEEIAAg' +
  'AUYEQCAEIAJrDwsgASAAa0ECSQ0BIAAvAQAhCCAAQQJqIQAgCEUNASAIIAQgAmtLDQEgBUEPcSEGIAZBD0YEQANAIAAgAU8NAyAALQAAIQcgAEEBaiEA' +
  'IAYgB2ohBiAHQf8BRg0ACwsgBkEEaiEGIAYgAyAEa0sNASAEIAhrIQogBCAGaiEJIAhBCE8EQCAGQYABSyAIIAZPcQRAIAQgCiAG/AoAAAUDQCAEIAop' +
  'AwA3AwAgBEEIaiEEIApBCGohCiAEIAlJDQALCwUgCEEBRgRAIAQgCi0AACAG/AsABQNAIAQgCi0AADoAACAEQQFqIQQgCkEBaiEKIAQgCUkNAAsLCyAJ' +
  'IQQMAAsLQX8LkgEBAn8gACgCICEDIAMEQEEQIANrIQQgBCACIAFrSwRAIAIgAWshBAsgAEEQaiADaiABIAT8CgAAIAEgBGohASADIARqIQMgACADNgIg' +
  'IANBEEkEQA8LIAAgAEEQaiAAQSBqEAILIAIgAWtBD3EhAyACIANrIQIgACABIAIQAiAAQRBqIAIgA/wKAAAgACADNgIgC74BAQR/IAAoAgAhAyAAKAIE' +
  'IQQgACgCCCEFIAAoAgwhBgJAA0AgASACTw0BQbHz3fF5IAMgASgCAEH3lK+veGxqQQ13bCEDQbHz3fF5IAQgASgCBEH3lK+veGxqQQ13bCEEQbHz3fF5' +
  'IAUgASgCCEH3lK+veGxqQQ13bCEFQbHz3fF5IAYgASgCDEH3lK+veGxqQQ13bCEGIAFBEGohAQwACwsgACADNgIAIAAgBDYCBCAAIAU2AgggACAGNgIM' +
  'C80EAg1/AX4gACEEIAAhBiACIQUgAUEMayEPIAFBBWshECADQQBBgIAC/AsAAkADQEHAACEJAkADQCAEIA9KDQMgBCkDACERIANB/P8BIBFCGIZClfip' +
  '+pe33puef35CMYincWohCCAIKAIAIQcgCCAENgIAIAcoAgAgEadGBEAgBCAHa0GAgARJDQILIAQgCUEGdmohBCAJQQFqIQkMAAsLIAQgB2shDCAEIAZr' +
  'IQogBEEEaiENIAdBBGohDiAEQQhrKQMAIAdBCGspAwCFeUIDiKchCyALIAogCyAKSRshCyAHIABrIQggCyAIIAsgCEkbIQsgCiALayEKIAQgC2shBAJA' +
  'A0AgDSkDACAOKQMAhSERIBFCAFINASANQQhqIQ0gDkEIaiEOIA0gEEkNAAsLIA0gEXqnQQN2aiENIA0gECANIBBJGyENIA0gBGtBBGshCyAFIApBDyAK' +
  'QQ9JG0EEdCALQQ8gC0EPSRtyOgAAIAVBAWohBSAKQQ9JBEAgBSAGKQMANwMAIAUgBikDCDcDCAUgBSAKQQ9rEAQhBSAFIAYgCvwKAAALIAUgCmohBSAF' +
  'IAw7AQAgBUECaiEFIAtBD08EQCAFIAtBD2sQBCEFCyANIQQgDSEGIARBAmshDiADQfz/ASAOKQMAQhiGQpX4qfqXt96bnn9+QjGIp3FqIA42AgAMAAsL' +
  'IAEgBmshCiAFIApBDyAKQQ9JG0EEdDoAACAFQQFqIQUgCkEPTwRAIAUgCkEPaxAEIQULIAUgBiAK/AoAACAFIApqIAJrCzUAAkADQCABQf8BSQ0BIABB' +
  '/wE6AAAgAEEBaiEAIAFB/wFrIQEMAAsLIAAgAToAACAAQQFqCw==';

/** Copies may run over the end of source and destination by this much. */
export const SLACK = 16;
const WASM_PAGE_SIZE = 64 << 10;
/** The maximum that lz4-block.wat declares. */
const MAX_WASM_PAGES = 16384;

/** Memory in which blocks are decompressed; it can be shared with a worker thread. */
export interface BlockMemory {
  readonly buffer: SharedArrayBuffer;
  grow(pageCount: number): number;
}

/**
 * The function of lz4-block.wat; all parameters are positions in its memory.
 * @returns the length of the content, -1 when the block is invalid or does not fit
 */
export type Decompress = (
  source: number,
  sourceEnd: number,
  destination: number,
  destinationEnd: number,
) => number;

/**
 * The function of lz4-block.wat; all parameters are positions in its memory.
 * @param source at COMPRESS_SOURCE or later
 * @param table COMPRESS_TABLE_SIZE bytes of working memory
 * @returns the length of the block, at most compressBound()
 */
export type Compress = (source: number, sourceEnd: number, destination: number, table: number) => number;

export const COMPRESS_TABLE_SIZE: number = 32 << 10;
/** Before this position there must be no content: positions below it stand for nothing in the table. */
export const COMPRESS_SOURCE: number = 64 << 10;

/** Most bytes that a block has whose content has `sizeBytes`. */
export function compressBound(sizeBytes: number): number {
  return sizeBytes + Math.ceil(sizeBytes / 255) + 16;
}

/** The part of the global that is used here: its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Memory: new (options: { initial: number; maximum: number; shared: true }) => BlockMemory;
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: { env: { memory: BlockMemory } },
  ) => { readonly exports: { readonly compress: Compress; readonly decompress: Decompress } };
};

let compiled: object | undefined;

/** lz4-block.wat as a WebAssembly.Module, which can be sent to a worker thread. */
export function compiledModule(): object {
  return (compiled ??= new WebAssembly.Module(Buffer.from(MODULE, 'base64')));
}

export function createMemory(): BlockMemory {
  return new WebAssembly.Memory({ initial: 1, maximum: MAX_WASM_PAGES, shared: true });
}

/** Makes the memory at least this large. Views of it stay valid but do not grow. */
export function growTo(memory: BlockMemory, sizeBytes: number): void {
  const missing = sizeBytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / WASM_PAGE_SIZE));
}

/** Room for one compressed block and two decompressed ones, of at most `maxSizeBytes` each. */
export class Lz4BlockDecoder {
  readonly #decompress: Decompress;
  readonly #memory: Uint8Array;
  readonly #stride: number;
  #turn = 1;

  constructor(maxSizeBytes: number) {
    const memory = createMemory();
    this.#decompress = new WebAssembly.Instance(compiledModule(), { env: { memory } }).exports.decompress;
    this.#stride = maxSizeBytes + SLACK;
    growTo(memory, 3 * this.#stride);
    this.#memory = new Uint8Array(memory.buffer);
  }

  /**
   * Decompresses a block.
   * @param block of at most maxSizeBytes
   * @param limit the content has at most this many bytes; not more than maxSizeBytes
   * @returns the content, valid until the call after the next; undefined when the block is invalid or exceeds the limit
   */
  decompress(block: Uint8Array, limit: number): Uint8Array | undefined {
    this.#memory.set(block, 0);
    this.#turn = 3 - this.#turn;
    const start = this.#turn * this.#stride;
    const length = this.#decompress(0, block.byteLength, start, start + limit);
    return length < 0 ? undefined : this.#memory.subarray(start, start + length);
  }
}

/** Room for one block of at most `maxSizeBytes` of content. */
export class Lz4BlockEncoder {
  readonly #compress: Compress;
  readonly #memory: Uint8Array;
  readonly #destination: number;

  constructor(maxSizeBytes: number) {
    const memory = createMemory();
    this.#compress = new WebAssembly.Instance(compiledModule(), { env: { memory } }).exports.compress;
    this.#destination = COMPRESS_SOURCE + maxSizeBytes + SLACK;
    growTo(memory, this.#destination + compressBound(maxSizeBytes) + SLACK);
    this.#memory = new Uint8Array(memory.buffer);
  }

  /**
   * Compresses into a block, which may be larger than its content. The same content always gives the same block.
   * @param content of at most maxSizeBytes
   * @returns the block, valid until the next call
   */
  compress(content: Uint8Array): Uint8Array {
    this.#memory.set(content, COMPRESS_SOURCE);
    const length = this.#compress(
      COMPRESS_SOURCE,
      COMPRESS_SOURCE + content.byteLength,
      this.#destination,
      0,
    );
    return this.#memory.subarray(this.#destination, this.#destination + length);
  }
}
