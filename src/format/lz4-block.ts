/**
 * Decompression of LZ4 blocks into memory that is used again and again. Fresh memory for each block, as a native
 * library hands it out, costs more than the decompression and piles up faster than it is collected.
 */

/** lz4-block.wat, compiled: WebAssembly is loaded synchronously and needs no native part. */
const MODULE =
  'AGFzbQEAAAABCQFgBH9/f38BfwMCAQAFAwEAAQcXAgZtZW1vcnkCAApkZWNvbXByZXNzAAAKswMBsAMBB38gAiEEAkADQCAA' +
  'IAFPDQEgAC0AACEFIABBAWohACAFQQR2IQYgBkEPRgRAA0AgACABTw0DIAAtAAAhByAAQQFqIQAgBiAHaiEGIAdB/wFGDQAL' +
  'CyAGIAEgAGtLDQEgBiADIARrSw0BIAZBEE0EQCAEIAApAwA3AwAgBCAAKQMINwMIBSAEIAAgBvwKAAALIAAgBmohACAEIAZq' +
  'IQQgACABRgRAIAQgAmsPCyABIABrQQJJDQEgAC8BACEIIABBAmohACAIRQ0BIAggBCACa0sNASAFQQ9xIQYgBkEPRgRAA0Ag' +
  'ACABTw0DIAAtAAAhByAAQQFqIQAgBiAHaiEGIAdB/wFGDQALCyAGQQRqIQYgBiADIARrSw0BIAQgCGshCiAEIAZqIQkgCEEI' +
  'TwRAIAZBgAFLIAggBk9xBEAgBCAKIAb8CgAABQNAIAQgCikDADcDACAEQQhqIQQgCkEIaiEKIAQgCUkNAAsLBSAIQQFGBEAg' +
  'BCAKLQAAIAb8CwAFA0AgBCAKLQAAOgAAIARBAWohBCAKQQFqIQogBCAJSQ0ACwsLIAkhBAwACwtBfws=';

/** Copies may run over the end of source and destination by this much. */
const SLACK = 16;
const WASM_PAGE_SIZE = 64 << 10;

/** The exports of lz4-block.wat. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pageCount: number): number };
  readonly decompress: (
    source: number,
    sourceEnd: number,
    destination: number,
    destinationEnd: number,
  ) => number;
}

/** The part of the global that is used here: its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Exports };
};

let compiled: object | undefined;

/** Room for one compressed block and two decompressed ones, of at most `maxSizeBytes` each. */
export class Lz4BlockDecoder {
  readonly #exports: Exports;
  readonly #memory: Uint8Array;
  readonly #stride: number;
  #turn = 1;

  constructor(maxSizeBytes: number) {
    compiled ??= new WebAssembly.Module(Buffer.from(MODULE, 'base64'));
    this.#exports = new WebAssembly.Instance(compiled).exports;
    this.#stride = maxSizeBytes + SLACK;
    this.#exports.memory.grow(Math.ceil((3 * this.#stride) / WASM_PAGE_SIZE));
    this.#memory = new Uint8Array(this.#exports.memory.buffer);
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
    const length = this.#exports.decompress(0, block.byteLength, start, start + limit);
    return length < 0 ? undefined : this.#memory.subarray(start, start + length);
  }
}
