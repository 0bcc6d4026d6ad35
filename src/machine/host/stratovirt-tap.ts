/**
 * What StratoVirt asks /dev/net/tun for. stratovirt 2.5.0 util/src/tap.rs, Tap::new(), and virtio/src/device/net.rs,
 * create_tap(), init_config_features(), activate(). From the source, not from a recording.
 */
import {
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  TUN_F_CSUM,
  TUN_F_UFO,
  TUN_FEATURES,
  TUNGETFEATURES,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETVNETHDRSZ,
  type TunStep,
} from './tun-ioctls.ts';

/** struct virtio_net_hdr with num_buffers: its devices have VIRTIO_F_VERSION_1 always. */
const VNET_HDR_MRG = 12;

/** One queue of a tap. `own`: of a device that StratoVirt serves itself, which asks whether the kernel takes UFO. */
export function stratovirtTapOpen(queues: number, own: boolean): readonly TunStep[] {
  const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (queues > 1 ? IFF_MULTI_QUEUE : 0);
  const steps: TunStep[] = [
    { ioctl: TUNSETIFF, argument: flags, why: 'attach to the interface' },
    { ioctl: TUNGETFEATURES, argument: TUN_FEATURES, why: 'what the kernel can' },
    { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR_MRG, why: 'header with num_buffers' },
  ];
  if (own) steps.push({ ioctl: TUNSETOFFLOAD, argument: TUN_F_CSUM | TUN_F_UFO, why: 'does the kernel take UFO' });
  return steps;
}
/** At DRIVER_OK, on each queue: what the guest takes as it is (TUN_F_… bits). The vhost device leaves that out. */
export function stratovirtTapOffload(offloads: number, queues: number): readonly TunStep[] {
  return Array.from({ length: queues }, (_, queue) => ({
    queue,
    ioctl: TUNSETOFFLOAD,
    argument: offloads,
    why: 'what the guest takes as it is',
  }));
}
