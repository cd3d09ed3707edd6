/**
 * Decompression of LZ4 blocks into memory that is used again and again. Fresh memory for each block, as a native
 * library hands it out, costs more than the decompression and piles up faster than it is collected.
 */

/** lz4-block.wat, compiled: WebAssembly is loaded synchronously and needs no native part. */
export const MODULE: string =
  'AGFzbQEAAAABDwJgBH9/f38Bf2ADf39/AAISAQNlbnYGbWVtb3J5AgMBgIABAwQDAAEBBxUCCmRlY29tcHJlc3MAAARoYXNoAAEKhwYDsAMBB38g' +
  'AiEEAkADQCAAIAFPDQEgAC0AACEFIABBAWohACAFQQR2IQYgBkEPRgRAA0AgACABTw0DIAAtAAAhByAAQQFqIQAgBiAHaiEGIAdB/wFGDQALCyAG' +
  'IAEgAGtLDQEgBiADIARrSw0BIAZBEE0EQCAEIAApAwA3AwAgBCAAKQMINwMIBSAEIAAgBvwKAAALIAAgBmohACAEIAZqIQQgACABRgRAIAQgAmsP' +
  'CyABIABrQQJJDQEgAC8BACEIIABBAmohACAIRQ0BIAggBCACa0sNASAFQQ9xIQYgBkEPRgRAA0AgACABTw0DIAAtAAAhByAAQQFqIQAgBiAHaiEG' +
  'IAdB/wFGDQALCyAGQQRqIQYgBiADIARrSw0BIAQgCGshCiAEIAZqIQkgCEEITwRAIAZBgAFLIAggBk9xBEAgBCAKIAb8CgAABQNAIAQgCikDADcD' +
  'ACAEQQhqIQQgCkEIaiEKIAQgCUkNAAsLBSAIQQFGBEAgBCAKLQAAIAb8CwAFA0AgBCAKLQAAOgAAIARBAWohBCAKQQFqIQogBCAJSQ0ACwsLIAkh' +
  'BAwACwtBfwuSAQECfyAAKAIgIQMgAwRAQRAgA2shBCAEIAIgAWtLBEAgAiABayEECyAAQRBqIANqIAEgBPwKAAAgASAEaiEBIAMgBGohAyAAIAM2' +
  'AiAgA0EQSQRADwsgACAAQRBqIABBIGoQAgsgAiABa0EPcSEDIAIgA2shAiAAIAEgAhACIABBEGogAiAD/AoAACAAIAM2AiALvgEBBH8gACgCACED' +
  'IAAoAgQhBCAAKAIIIQUgACgCDCEGAkADQCABIAJPDQFBsfPd8XkgAyABKAIAQfeUr694bGpBDXdsIQNBsfPd8XkgBCABKAIEQfeUr694bGpBDXds' +
  'IQRBsfPd8XkgBSABKAIIQfeUr694bGpBDXdsIQVBsfPd8XkgBiABKAIMQfeUr694bGpBDXdsIQYgAUEQaiEBDAALCyAAIAM2AgAgACAENgIEIAAg' +
  'BTYCCCAAIAY2AgwL';

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

/** The part of the global that is used here: its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Memory: new (options: { initial: number; maximum: number; shared: true }) => BlockMemory;
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: { env: { memory: BlockMemory } },
  ) => { readonly exports: { readonly decompress: Decompress } };
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
