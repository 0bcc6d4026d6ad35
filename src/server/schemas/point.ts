/** Capture points: the hops of a world, as `points` names them. */
import { Type } from 'typebox';
import { closed, name, oneOf, pageOf } from './reference.ts';

const label = (description: string, example: string) =>
  Type.Optional(Type.String({ description, examples: [example] }));

export const CapturePoint = name(
  closed(
    {
      name: Type.String({
        description: 'As `points` takes it, and as the interface is called.',
        examples: ['a/net0/tx0'],
      }),
      type: oneOf(['driver', 'queue', 'backend', 'vcpu', 'vmm', 'tap', 'bridge', 'port', 'nic', 'wire', 'world'], {
        description: 'What kind of place it is.',
        examples: ['queue'],
      }),
      description: Type.String({
        description: 'One sentence, also in the capture.',
        examples: ['transmit virtqueue 1 of net0'],
      }),
      host: label('Host, where there are several.', 'h1'),
      guest: label('Guest that it belongs to.', 'a'),
      nic: label('NIC of that guest.', 'net0'),
      backend: label('What serves that NIC.', 'vhost-net'),
      queue: label('Queue of that NIC.', 'tx0'),
      bridge: label('Bridge that it belongs to.', 'br0'),
      port: label('Port of that bridge.', 'a.net0'),
      retired: Type.Optional(
        Type.Boolean({
          description: 'True where it is no more: a port or back-end that its NIC has left. What it has counted stays.',
          examples: [true],
        }),
      ),
    },
    { $id: 'CapturePoint', description: 'A hop that can be captured at.' },
  ),
);
export const CapturePointPage = pageOf(CapturePoint, 'CapturePointPage');
