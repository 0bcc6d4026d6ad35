/** Guest memory for frames that the device cuts, and how many descriptors long frames take. */

/** A frame of 65,550 bytes with its header, in whole pages. */
export const GSO_BUFFER_BYTES = 68 * 1024;
/**
 * Frames of that size that a NIC can have under way to the device, of all its queue pairs together.
 * DEVIATION: Linux sends them from where they lie, as many as the rings hold.
 */
export const GSO_BUFFERS = 16;
/** Entries of an indirect table for such a frame: header, and fragments of 32 KiB. */
export const GSO_ENTRIES = 6;
/** Entries of an indirect table for a big receive buffer: MAX_SKB_FRAGS and two more, and one to spare. */
export const BIG_ENTRIES = 20;
