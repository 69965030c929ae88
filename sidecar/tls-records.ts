/** Kinds of records that TLS has (RFC 8446, 5.1), from change_cipher_spec to application_data. */
const [FIRST_TYPE, LAST_TYPE] = [20, 23];
/** TLS 1.0 to 1.3, of which the last calls itself 1.2 here. */
const [MAJOR, MINOR_MAX] = [3, 4];
const HEADER_BYTES = 5;
/** RFC 5246, 6.2.3; of TLS 1.3 it is less. */
const LENGTH_MAX = 16_384 + 2_048;

/** Whether a stream of bytes is one of TLS records, by their headers alone: what is in them nobody sees. */
export class TlsRecords {
  /** Bytes of the header that have come, and of the record that are still to come. */
  #header = 0;
  #length = 0;
  #left = 0;

  /** Takes the next bytes; false where they belong to no record. */
  take(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, bytes.length - at);
        this.#left -= taken;
        at += taken;
      } else {
        if (!this.#head(bytes[at] ?? 0)) return false;
        at += 1;
      }
    }
    return true;
  }

  #head(byte: number): boolean {
    const place = this.#header;
    this.#header = (place + 1) % HEADER_BYTES;
    if (place === 0) return byte >= FIRST_TYPE && byte <= LAST_TYPE;
    if (place === 1) return byte === MAJOR;
    if (place === 2) return byte <= MINOR_MAX;
    this.#length = place === 3 ? byte << 8 : this.#length | byte;
    if (place === 4) this.#left = this.#length;
    return place === 3 || (this.#length > 0 && this.#length <= LENGTH_MAX);
  }
}
