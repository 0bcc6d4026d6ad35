/**
 * Which CPU an MSI goes to: the destination in its address (Intel SDM 3A §11.11.1), as Linux writes it. Up to eight CPUs have a
 * bit each (flat logical mode), more are numbered (physical mode): linux arch/x86/kernel/apic/apic_flat_64.c.
 */
const MSI_BASE = 0xfee0_0000;
const DESTINATION_SHIFT = 12;
const LOGICAL = 0x4;
/** CPUs that flat logical mode has bits for. */
const FLAT_CPUS = 8;

/** Address of an MSI to CPU `cpu` of a guest that has `cpus` of them. */
export function msiAddress(cpu: number, cpus: number): number {
  const destination = cpus <= FLAT_CPUS ? (1 << cpu) << DESTINATION_SHIFT : cpu << DESTINATION_SHIFT;
  return MSI_BASE + destination + (cpus <= FLAT_CPUS ? LOGICAL : 0);
}
/** The CPU that a message with this address reaches: of several the first, -1 where there is none. */
export function msiTarget(address: number): number {
  const destination = (address >>> DESTINATION_SHIFT) & 0xff;
  if ((address & LOGICAL) === 0) return destination;
  return destination === 0 ? -1 : 31 - Math.clz32(destination & -destination);
}
