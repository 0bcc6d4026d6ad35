/** Queues of a virtio-net device by name: which index is whose (virtio 1.2 §5.1.2). */
import { hasFeature, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_RSS } from '../machine/virtio/features.ts';
import { VIRTIO_CONFIG_S_FEATURES_OK } from '../machine/virtio/status.ts';
import type { BuiltNic } from './build/machine.ts';
import { deviceOf } from './inspect.ts';
import { Refusal } from './refusal.ts';

/**
 * Index of the control queue, -1 where there is none: behind the pairs that the driver knows of, and behind all that the
 * device has until the driver has said so.
 */
export function controlIndex(nic: BuiltNic): number {
  const { driverFeatures, status, queues, offered } = deviceOf(nic);
  const settled = (status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
  if (!hasFeature(settled ? driverFeatures : offered, VIRTIO_NET_F_CTRL_VQ)) return -1;
  const multi = hasFeature(driverFeatures, VIRTIO_NET_F_MQ) || hasFeature(driverFeatures, VIRTIO_NET_F_RSS);
  const index = settled && !multi ? 2 : 2 * nic.document.queuePairs;
  return index < queues.length ? index : -1;
}

/** `rx0`, `tx0`, …, `ctrl`; the number of one that belongs to nobody because the driver uses fewer pairs than there are. */
export function queueName(nic: BuiltNic, index: number): string {
  if (index === controlIndex(nic)) return 'ctrl';
  if (index >= 2 * nic.document.queuePairs) return String(index);
  return `${index % 2 === 0 ? 'rx' : 'tx'}${index >> 1}`;
}

/** Index of a queue by its name (`rx0`, `tx3`, `ctrl`) or its number as text. Refuses what is not there. */
export function queueIndex(nic: BuiltNic, queue: string): number {
  const count = deviceOf(nic).queues.length;
  const pairs = nic.document.queuePairs;
  const control = controlIndex(nic);
  const named = /^(rx|tx)(0|[1-9][0-9]{0,4})$/.exec(queue);
  let index = -1;
  if (named !== null) {
    const pair = Number(named[2]);
    if (pair < pairs) index = 2 * pair + (named[1] === 'tx' ? 1 : 0);
  } else if (queue === 'ctrl') index = control;
  else if (/^(0|[1-9][0-9]{0,4})$/.test(queue)) index = Number(queue);
  if (index >= 0 && index < count) return index;
  const names = pairs > 1 ? `rx0 to rx${pairs - 1}, tx0 to tx${pairs - 1}` : 'rx0, tx0';
  const known = `${names}${control >= 0 ? ', ctrl' : ''}, or an index below ${count}`;
  throw new Refusal('NOT_FOUND', `${nic.nic.name} has no queue ${queue}; expected ${known}`);
}
