/** What QEMU is asked for while its guest runs: bodies and answers. */
import { Type } from 'typebox';
import { closed, name, oneOf, orNull } from './reference.ts';

export const servedBy = orNull(oneOf(['backend', 'userspace'], { examples: ['backend'] }), {
  description:
    "Who moves the frames of the NIC's rings: its `backend`, or QEMU's main loop in place of a vhost-net that did not start, or that is stopped because the link is down (`userspace`). null: nobody.",
  examples: ['backend'],
});
const guest = Type.String({ examples: ['a'] });
const nic = Type.String({ examples: ['net0'] });

export const GuestStateSchema = name(
  closed(
    { state: oneOf(['paused', 'running'], { examples: ['paused'] }) },
    { $id: 'GuestState', description: 'Whether a guest runs.', examples: [{ state: 'paused' }] },
  ),
);
export const GuestRunStateSchema = name(
  closed(
    {
      guest,
      state: oneOf(['paused', 'running'], { description: 'As it was asked for last.', examples: ['paused'] }),
      done: Type.Boolean({
        description: 'QEMU has done it. It takes virtual time: false where the clock is paused, or a reader holds it.',
        examples: [true],
      }),
    },
    { $id: 'GuestRunState', description: 'A guest that QEMU stops and lets go on.' },
  ),
);

export const LinkSchema = name(
  closed(
    { up: Type.Boolean({ description: 'The cable is plugged.', examples: [false] }) },
    { $id: 'Link', description: 'The link of a NIC.', examples: [{ up: false }] },
  ),
);
export const NicLinkSchema = name(
  closed(
    {
      guest,
      nic,
      up: Type.Boolean({ description: 'VIRTIO_NET_S_LINK_UP in the status of the device.', examples: [false] }),
      servedBy,
    },
    { $id: 'NicLink', description: 'The link of a NIC, and what follows for its rings.' },
  ),
);

export const NicChangeSchema = name(
  closed(
    {
      backend: Type.Optional(
        oneOf(['virtio-net', 'vhost-net', 'vhost-user'], {
          description: 'The back-end that the NIC gets. Default: the one that it has.',
          examples: ['vhost-net'],
        }),
      ),
      bridge: Type.Optional(
        Type.String({
          minLength: 1,
          maxLength: 200,
          description: 'The bridge of the host that it is plugged into. Default: the one where it is.',
          examples: ['br0'],
        }),
      ),
    },
    {
      $id: 'NicChange',
      description: 'Another back-end, or another bridge, for a NIC whose guest runs.',
      examples: [{ backend: 'vhost-net', bridge: 'br0' }],
    },
  ),
);

const time = (description: string) =>
  orNull(Type.Number({ minimum: 0, description, examples: [0.002] }), { description, examples: [0.002] });
export const NicMigrationSchema = name(
  closed(
    {
      backend: Type.String({ description: 'As it is now.', examples: ['vhost-net'] }),
      bridge: Type.String({ description: 'As it is now.', examples: ['br0'] }),
      state: oneOf(['RUNNING', 'COMPLETED', 'FAILED'], { examples: ['COMPLETED'] }),
      reason: orNull(Type.String(), { description: 'Why it failed: the NIC is as it was.', examples: [null] }),
      askedAtSeconds: Type.Number({ minimum: 0, description: 'Virtual time.', examples: [0.002] }),
      stoppedAtSeconds: time('Virtual time at which the vCPUs stood still; null: not yet.'),
      startedAtSeconds: time('Virtual time at which they ran again.'),
      downtimeSeconds: time('From the one to the other.'),
      phases: closed(
        {
          stopSeconds: time('The back-ends of all NICs leave the rings.'),
          saveSeconds: time('The state of the device is saved.'),
          switchSeconds: time('The old netdev goes, the new one is opened.'),
          loadSeconds: time('The state is loaded.'),
          startSeconds: time('The rings are handed over, the vCPUs start.'),
          announceSeconds: time('RARP, and the driver is asked to announce itself.'),
        },
        { description: 'How long each phase took, virtual time; null: not yet.' },
      ),
      stateBytes: Type.Integer({ minimum: 0, description: "Bytes of the device's state.", examples: [180] }),
    },
    { $id: 'NicMigration', description: 'A NIC given another back-end or bridge while its guest ran.' },
  ),
);
