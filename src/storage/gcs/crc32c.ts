/** CRC-32C (Castagnoli), the checksum that Google Cloud Storage keeps of every object. */

/** The Castagnoli polynomial, reversed. */
const POLYNOMIAL = 0x82f63b78;

/** Eight tables of 256 in one: entry 256 n + b is what byte b does to the checksum with n zero bytes behind it. */
const TABLES: Int32Array = newTables();

function newTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    tables[byte] = value;
  }
  for (let index = 256; index < tables.length; index++) {
    const value = tables[index - 256] as number;
    tables[index] = (value >>> 8) ^ (tables[value & 0xff] as number);
  }
  return tables;
}

/** The checksum of `data` behind bytes whose checksum is `before` (0: none), as an unsigned number. */
export function crc32c(data: Uint8Array, before = 0): number {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const at = (table: number, byte: number): number => TABLES[(table << 8) | (byte & 0xff)] as number;
  let crc = ~before;
  let offset = 0;
  for (; offset + 8 <= data.length; offset += 8) {
    const low = crc ^ view.getInt32(offset, true);
    const high = view.getInt32(offset + 4, true);
    crc =
      at(7, low) ^
      at(6, low >>> 8) ^
      at(5, low >>> 16) ^
      at(4, low >>> 24) ^
      at(3, high) ^
      at(2, high >>> 8) ^
      at(1, high >>> 16) ^
      at(0, high >>> 24);
  }
  for (; offset < data.length; offset++) crc = (crc >>> 8) ^ at(0, crc ^ view.getUint8(offset));
  return ~crc >>> 0;
}

/** A checksum as Google writes it: its bytes, most significant first, in base64. */
export function encodeCrc32c(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString('base64');
}
