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
