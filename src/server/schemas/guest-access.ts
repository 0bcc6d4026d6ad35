/** What a client says when it acts as a guest: bytes for memory, accesses to registers, notifications. */
import { Type } from 'typebox';
import { MemoryQuery } from './guest.ts';
import { closed, name, oneOf, orNull } from './reference.ts';

const WORD = 0xffff_ffff;

export const MemoryWriteQuery = closed({
  address: MemoryQuery.properties.address,
  length: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 1 << 30,
      description: 'Bytes; those of the body, and a fault where it has another number.',
      examples: [16],
    }),
  ),
});

export const RegisterAccessSchema = name(
  closed(
    {
      region: oneOf(['common', 'notify', 'isr', 'device', 'pci', 'msix', 'legacy', 'mmio'], {
        description:
          'The window that the capability of that name describes (virtio 1.2 §4.1.4); `pci`: configuration space; `msix`: table and pending bits; `legacy`: the I/O BAR of a transitional or legacy device; `mmio`: the registers of virtio-mmio.',
        examples: ['common'],
      }),
      offset: Type.Integer({
        minimum: 0,
        maximum: 0xff_ffff,
        description: 'Byte in the region.',
        examples: [20],
      }),
      width: Type.Unsafe<1 | 2 | 4>({
        type: 'integer',
        enum: [1, 2, 4],
        description: 'Bytes of the access, little-endian.',
        examples: [1],
      }),
      value: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: WORD,
          description: 'What is written. Without it the register is read.',
          examples: [15],
        }),
      ),
    },
    {
      $id: 'RegisterAccess',
      description: 'An access to registers of a virtio device, as a driver makes it.',
      examples: [{ region: 'common', offset: 20, width: 1, value: 15 }],
    },
  ),
);

export const NotificationSchema = name(
  closed(
    {
      value: Type.Optional(
        orNull(Type.Integer({ minimum: 0, maximum: WORD, examples: [1] }), {
          description:
            'What is written to the notify register. Default: the index of the queue; with VIRTIO_F_NOTIFICATION_DATA it says more (virtio 1.2 §2.9).',
        }),
      ),
    },
    { $id: 'Notification', description: 'An available buffer notification.', examples: [{}] },
  ),
);

export const RegisterValueSchema = name(
  closed(
    { value: Type.Integer({ minimum: 0, maximum: WORD, description: 'What was read, or written.', examples: [15] }) },
    { $id: 'RegisterValue', description: 'The value of an access to registers.' },
  ),
);
