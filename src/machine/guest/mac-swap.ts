/** What testpmd's macswap does to a frame, and XDP programs that send frames back. */

/** Swaps destination and source address of the Ethernet header at arena offset `at`, which is even. */
export function swapMacs(u16: Uint16Array, at: number): void {
  const w = at >> 1;
  for (let i = 0; i < 3; i++) {
    const destination = u16[w + i]!;
    u16[w + i] = u16[w + 3 + i]!;
    u16[w + 3 + i] = destination;
  }
}
