/**
 * How a party reaches guest memory: a short list of regions, each a range of its addresses and where that range lies in
 * the arena. KVM's memory slots, QEMU's own mapping, vhost's memory table and a vhost-user back-end's mmaps are all one of
 * these. Addresses come from guests and peers, so every translation is bounds-checked.
 */
export class AddressSpace {
  private readonly start: number[] = [];
  private readonly end: number[] = [];
  private readonly delta: number[] = [];
  // the region of the last hit, as plain fields: almost every access falls into one region
  // (before the first hit a range that holds nothing, not even no bytes at address 0)
  private hotStart = 1;
  private hotEnd = 0;
  private hotDelta = 0;

  /** Maps [address, address + size) to the arena offsets that begin at `offset`. */
  map(address: number, size: number, offset: number): void {
    this.start.push(address);
    this.end.push(address + size);
    this.delta.push(offset - address);
  }

  /** Arena offset of `length` bytes at `address`; -1 when they do not all lie in one region. */
  translate(address: number, length: number): number {
    if (address >= this.hotStart && address + length <= this.hotEnd) return address + this.hotDelta;
    return this.search(address, length);
  }

  private search(address: number, length: number): number {
    for (let i = 0; i < this.start.length; i++) {
      if (address >= this.start[i]! && address + length <= this.end[i]!) {
        this.hotStart = this.start[i]!;
        this.hotEnd = this.end[i]!;
        this.hotDelta = this.delta[i]!;
        return address + this.hotDelta;
      }
    }
    return -1;
  }
}
