/** A NIC behind an IOMMU, and the translations of an address. */
import { Type } from 'typebox';
import { closed, name, oneOf, orNull, ref } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const hex = (description: string, example: string) => Type.String({ description, examples: [example] });
const modes = (description: string) => oneOf(['strict', 'lazy', 'passthrough'], { description });

export const TranslateQuery = closed({
  iova: Type.String({
    pattern: '^(0[xX][0-9a-fA-F]{1,13}|[0-9]{1,15})$',
    description:
      'Address as the device uses it, decimal or with 0x: an I/O virtual one behind an IOMMU, else a guest-physical one.',
    examples: ['0xffffe000'],
  }),
  access: Type.Optional(
    oneOf(['read', 'write'], { description: 'What the device wants to do there.', default: 'read' }),
  ),
});

const StepSchema = name(
  closed(
    {
      level: whole('3 is the top table; a level 1 entry is a page of 4 KiB.', 1),
      pteGpa: hex('Guest-physical address of the entry.', '0x11fff8'),
      pte: hex('The entry, 64 bits.', '0x123003'),
      read: Type.Boolean({ description: 'Bit 0.', examples: [true] }),
      write: Type.Boolean({ description: 'Bit 1.', examples: [true] }),
      leaf: Type.Boolean({ description: 'It maps a page and names no further table.', examples: [true] }),
      coversBytes: whole('What one entry of this level covers.', 4096),
    },
    { $id: 'TranslationStep', description: 'An entry of the second-level tables (VT-d §9.8).' },
  ),
);
export const TranslationSchema = name(
  closed(
    {
      iova: hex('The address asked for.', '0xffffe000'),
      access: oneOf(['read', 'write'], { description: 'What for.' }),
      iommu: orNull(
        closed({
          function: Type.String({ description: 'Bus, device, function.', examples: ['00:01.0'] }),
          domain: orNull(Type.Integer(), { description: 'Domain; null in pass-through mode.', examples: [1] }),
          mode: modes('How the guest’s kernel uses its IOMMU.'),
          passThrough: Type.Boolean({
            description: 'The context entry says that addresses are their own.',
            examples: [false],
          }),
          pageBytes: orNull(Type.Integer(), {
            description: 'Size of the page; null in pass-through mode.',
            examples: [4096],
          }),
          steps: Type.Array(ref(StepSchema), { description: 'Entries read, the top table’s first.' }),
        }),
        { description: 'I/O virtual to guest-physical. Null: the device uses guest-physical addresses.' },
      ),
      gpa: hex('Guest-physical address.', '0x123000'),
      qemu: closed(
        {
          hva: hex('QEMU’s address of the byte. An example: real ones differ from run to run.', '0x7f0000123000'),
          slot: whole('KVM memory slot.', 1),
          slotGpa: hex('Where the slot begins.', '0xc0000'),
          slotBytes: whole('Its size.', 15990784),
          slotHva: hex('Where QEMU has mapped it.', '0x7f00000c0000'),
        },
        { description: 'Guest-physical to QEMU’s own addresses.' },
      ),
      backend: orNull(
        closed({
          kind: oneOf(['vhost-net', 'vhost-user']),
          hva: hex('The back-end’s address of the byte; the kernel uses QEMU’s. An example.', '0x7e0100123000'),
          region: whole('Number of the region in the memory table.', 1),
          regionGpa: hex('Where it begins.', '0xc0000'),
          regionBytes: whole('Its size.', 15990784),
          regionUserAddress: hex('QEMU’s address of its beginning, as the table says it.', '0x7f00000c0000'),
          mmapOffset: orNull(Type.String(), {
            description: 'vhost-user: where the region begins in its file.',
            examples: ['0xc0000'],
          }),
          mmapAddress: orNull(Type.String(), {
            description: 'vhost-user: where the back-end has mapped the file. An example.',
            examples: ['0x7e0100000000'],
          }),
        }),
        { description: 'QEMU’s to the back-end’s addresses. Null: QEMU itself moves the frames.' },
      ),
      iotlb: Type.Array(
        closed({
          device: whole(
            'Number of the vhost device: one for all rings with vhost-user, one for each queue pair with vhost-net.',
          ),
          state: oneOf(['held', 'pending', 'absent'], {
            description: '`pending`: it has been asked for and not answered; after a fault it never is.',
          }),
          iova: orNull(Type.String(), { description: 'Where the entry begins.', examples: ['0xffffe000'] }),
          bytes: orNull(Type.Integer(), { description: 'What it covers.', examples: [4096] }),
        }),
        {
          description:
            'What the back-end’s device IOTLB holds for the address. Empty without IOMMU, and with QEMU’s own data path.',
        },
      ),
    },
    { $id: 'Translation', description: 'An address on its way through the three translations.' },
  ),
);

export const NicIommuSchema = name(
  closed(
    {
      mode: modes('How the guest’s kernel uses its IOMMU.'),
      cachingMode: Type.Boolean({ description: 'QEMU’s caching-mode.', examples: [true] }),
      function: Type.String({ description: 'Bus, device, function.', examples: ['00:01.0'] }),
      domain: orNull(Type.Integer(), { description: 'Domain; null in pass-through mode.', examples: [1] }),
      user: oneOf(['dma-api', 'vfio', 'none'], {
        description: 'Who maps: the kernel’s driver each buffer, a program through VFIO once, or nobody.',
      }),
      maps: whole('Buffers mapped by the kernel’s driver, rings included.', 260),
      unmaps: whole('Buffers unmapped.', 4),
      regions: Type.Array(
        closed({
          iova: hex('Where the device finds it.', '0x100000000'),
          gpa: hex('Where it is.', '0x200000'),
          bytes: whole('Its size.', 2097152),
        }),
        { description: 'What a program has mapped.' },
      ),
      iotlb: closed(
        {
          entries: whole('Held now.', 4),
          hits: whole('Lookups that found something.', 100),
          misses: whole('Messages to QEMU.', 4),
          updates: whole('Translations given by QEMU.', 6),
          invalidations: whole('Messages that took some away.', 2),
          evictions: whole('Entries that made room.'),
          faults: whole('Misses without an answer.'),
        },
        {
          description:
            'The device IOTLB of the back-end, of all its vhost devices; of QEMU’s own data path what it translated.',
        },
      ),
      faults: Type.Array(
        closed({
          reason: whole('Fault reason (VT-d §7.2.3.1).', 6),
          text: Type.String({ examples: ['no entry on the way allows reading'] }),
          iova: hex('The page.', '0xffffe000'),
          access: oneOf(['read', 'write']),
          atSeconds: Type.Number({ description: 'Virtual time.', examples: [0.5] }),
        }),
        { description: 'The first faults of the device.' },
      ),
    },
    { $id: 'NicIommu', description: 'The IOMMU in front of a NIC.' },
  ),
);
