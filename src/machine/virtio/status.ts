/**
 * Device status: the byte through which driver and device agree how far they are. virtio 1.2 §2.1 and §3.1.1.
 */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
/** Set by the device: it cannot go on, the driver must reset it. */
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;
/** Set by the driver: it gave up. */
export const VIRTIO_CONFIG_S_FAILED = 0x80;

const NAMES: readonly (readonly [number, string])[] = [
  [VIRTIO_CONFIG_S_ACKNOWLEDGE, 'ACKNOWLEDGE'],
  [VIRTIO_CONFIG_S_DRIVER, 'DRIVER'],
  [VIRTIO_CONFIG_S_DRIVER_OK, 'DRIVER_OK'],
  [VIRTIO_CONFIG_S_FEATURES_OK, 'FEATURES_OK'],
  [VIRTIO_CONFIG_S_NEEDS_RESET, 'DEVICE_NEEDS_RESET'],
  [VIRTIO_CONFIG_S_FAILED, 'FAILED'],
];
/** Names of the bits that are set, lowest first; text for people. */
export function statusNames(status: number): string[] {
  return NAMES.filter(([bit]) => (status & bit) !== 0).map(([, name]) => name);
}

/** Bits that a driver may set. */
const DRIVER_BITS =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_DRIVER_OK |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_FAILED;

/**
 * The status that a device shows after the driver wrote `written` while it showed `current`; `featuresValid` says whether
 * the device can work with the driver's features. Compare with `written` to see what was refused. Writing 0 is a reset and
 * not handled here.
 *
 * - §2.1.1: the driver must not clear bits: what was set stays set.
 * - §2.2.2, §3.1.1: FEATURES_OK stays clear when the features are no subset of the offered ones or lack a dependency.
 * - §3.1.1: DRIVER_OK without FEATURES_OK is out of order: a device that has VIRTIO_F_VERSION_1 does not go live.
 * - §2.1.2: DEVICE_NEEDS_RESET is the device's own bit; only a reset clears it, and DRIVER_OK is not taken after it.
 */
export function nextStatus(current: number, written: number, featuresValid: boolean): number {
  let next = current | (written & DRIVER_BITS);
  if ((current & VIRTIO_CONFIG_S_FEATURES_OK) === 0 && !featuresValid) next &= ~VIRTIO_CONFIG_S_FEATURES_OK;
  if ((current & VIRTIO_CONFIG_S_DRIVER_OK) === 0) {
    const live = (next & VIRTIO_CONFIG_S_FEATURES_OK) !== 0 && (current & VIRTIO_CONFIG_S_NEEDS_RESET) === 0;
    if (!live) next &= ~VIRTIO_CONFIG_S_DRIVER_OK;
  }
  return next;
}

/**
 * The same through a legacy interface, where features are not agreed on (§3.1.2): FEATURES_OK does not exist, and DRIVER_OK
 * needs nothing before it. A device that broke down takes DRIVER_OK only after a reset, as above.
 */
export function legacyStatus(current: number, written: number): number {
  let next = current | (written & DRIVER_BITS & ~VIRTIO_CONFIG_S_FEATURES_OK);
  const broken = (current & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) === VIRTIO_CONFIG_S_NEEDS_RESET;
  if (broken) next &= ~VIRTIO_CONFIG_S_DRIVER_OK;
  return next;
}
