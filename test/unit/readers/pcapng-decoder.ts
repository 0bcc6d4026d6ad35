/**
 * A second, naive pcapng reader: reads by the draft, block by block, with 64-bit numbers as bigint, and refuses what the
 * draft forbids. Shares nothing with the writer.
 */
export interface DecodedOption {
  readonly code: number;
  readonly value: Uint8Array;
}
export interface DecodedPacket {
  readonly interfaceId: number;
  /** ns since 1970. */
  readonly time: bigint;
  readonly data: Uint8Array;
  readonly originalLength: number;
  readonly flags: number;
  readonly packetId: bigint;
  readonly queue: number | null;
  readonly comments: readonly string[];
}
export interface Decoded {
  readonly section: readonly DecodedOption[];
  readonly interfaces: readonly {
    readonly linkType: number;
    readonly snaplen: number;
    readonly name: string;
    readonly description: string;
    readonly resolution: number;
    readonly speed: bigint | null;
  }[];
  readonly packets: readonly DecodedPacket[];
  readonly statistics: readonly {
    readonly interfaceId: number;
    readonly time: bigint;
    readonly received: bigint;
    readonly dropped: bigint;
    readonly comments: readonly string[];
  }[];
}

export function join(chunks: Iterable<Uint8Array>): Uint8Array {
  return Uint8Array.from(Buffer.concat([...chunks]));
}

export function decodePcapng(file: Uint8Array): Decoded {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const u16 = (at: number): number => view.getUint16(at, true);
  const u32 = (at: number): number => view.getUint32(at, true);
  const time = (at: number): bigint => (BigInt(u32(at)) << 32n) | BigInt(u32(at + 4));
  const out = {
    section: [] as DecodedOption[],
    interfaces: [] as Decoded['interfaces'][number][],
    packets: [] as DecodedPacket[],
    statistics: [] as Decoded['statistics'][number][],
  };
  const options = (from: number, to: number): DecodedOption[] => {
    const found: DecodedOption[] = [];
    let at = from;
    while (at < to) {
      const code = u16(at);
      const length = u16(at + 2);
      if (code === 0) {
        if (length !== 0 || at + 4 !== to) throw new Error('opt_endofopt is not the end');
        return found;
      }
      found.push({ code, value: file.slice(at + 4, at + 4 + length) });
      for (let p = at + 4 + length; p % 4 !== from % 4; p++) if (file[p] !== 0) throw new Error('padding is not zero');
      at += 4 + Math.ceil(length / 4) * 4;
    }
    if (at !== to) throw new Error('options overrun their block');
    return found;
  };
  const text = (list: DecodedOption[], code: number): string =>
    Buffer.from(list.find((o) => o.code === code)?.value ?? []).toString('utf8');
  const texts = (list: DecodedOption[], code: number): string[] =>
    list.filter((o) => o.code === code).map((o) => Buffer.from(o.value).toString('utf8'));
  const number = (list: DecodedOption[], code: number): bigint | null => {
    const option = list.find((o) => o.code === code);
    if (option === undefined) return null;
    return option.value.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);
  };
  for (let at = 0; at < file.length; ) {
    const type = u32(at);
    const length = u32(at + 4);
    if (length % 4 !== 0 || at + length > file.length || u32(at + length - 4) !== length) {
      throw new Error(`block at ${at}: bad length ${length}`);
    }
    if ((at === 0) !== (type === 0x0a0d0d0a)) throw new Error('a section header belongs at the start and only there');
    const end = at + length - 4;
    if (type === 0x0a0d0d0a) {
      if (u32(at + 8) !== 0x1a2b3c4d) throw new Error('byte order');
      if (u16(at + 12) !== 1 || u16(at + 14) !== 0) throw new Error('version');
      out.section = options(at + 24, end);
    } else if (type === 1) {
      const list = options(at + 16, end);
      out.interfaces.push({
        linkType: u16(at + 8),
        snaplen: u32(at + 12),
        name: text(list, 2),
        description: text(list, 3),
        resolution: Number(number(list, 9) ?? 6n),
        speed: number(list, 8),
      });
    } else if (type === 6) {
      const captured = u32(at + 20);
      const dataEnd = at + 28 + Math.ceil(captured / 4) * 4;
      const list = options(dataEnd, end);
      const interfaceId = u32(at + 8);
      if (out.interfaces[interfaceId] === undefined) throw new Error(`packet of undeclared interface ${interfaceId}`);
      for (let p = at + 28 + captured; p < dataEnd; p++) if (file[p] !== 0) throw new Error('padding is not zero');
      out.packets.push({
        interfaceId,
        time: time(at + 12),
        data: file.slice(at + 28, at + 28 + captured),
        originalLength: u32(at + 24),
        flags: Number(number(list, 2) ?? 0n),
        packetId: number(list, 5) ?? 0n,
        queue: number(list, 6) === null ? null : Number(number(list, 6)),
        comments: texts(list, 1),
      });
    } else if (type === 5) {
      const list = options(at + 20, end);
      out.statistics.push({
        interfaceId: u32(at + 8),
        time: time(at + 12),
        received: number(list, 4) ?? 0n,
        dropped: number(list, 5) ?? 0n,
        comments: texts(list, 1),
      });
    } else {
      throw new Error(`block type ${type}`);
    }
    at += length;
  }
  return out;
}
