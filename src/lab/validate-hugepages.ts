/**
 * Pages of memory: those that the DPDK program of a guest lies in, those of the host that back a guest, and whether the host
 * has enough of them for all. Part of the second pass over a document; read validate.ts first.
 */
import { BUFFER_BYTES } from './document-checks.ts';
import { type DraftGuest, type DraftHost, eachOf } from './document-draft.ts';
import type { Faults } from './document-faults.ts';
import type { PageSize } from './topology.ts';
import { formatSize } from './units.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
export const PAGE_BYTES: Readonly<Record<PageSize, number>> = { '4KiB': 4 * KiB, '2MiB': 2 * MiB, '1GiB': GiB };

const polls = (guest: DraftGuest): boolean => guest.nics?.some((nic) => nic?.driver === 'virtio-pmd') ?? false;

/** A guest with virtio-pmd has a DPDK program, another one has none. Without hugepages its addresses need an IOMMU. */
export function checkDpdk(guest: DraftGuest, at: string, faults: Faults): void {
  if (guest.dpdk === undefined) return;
  if (guest.dpdk === null) {
    if (polls(guest)) guest.dpdk = { hugepages: '2MiB', mempool: null };
    return;
  }
  if (!polls(guest) && guest.nics?.every((nic) => nic?.driver !== undefined)) {
    const detail = 'no NIC of this guest has the polling driver: there is no DPDK program in it';
    faults.add(`${at}/dpdk`, 'wrong-driver', detail, 'none, or "driver": "virtio-pmd"');
  }
  if (guest.dpdk.hugepages !== '4KiB') return;
  const around = guest.nics?.find((nic) => nic?.features?.['VIRTIO_F_ACCESS_PLATFORM'] === false);
  if (guest.iommu === null || (guest.iommu !== undefined && around !== undefined))
    faults.add(
      `${at}/dpdk/hugepages`,
      'wrong-feature',
      `without hugepages a DPDK program has no physical addresses, and ${guest.iommu === null ? 'without an IOMMU devices know' : `NIC ${around?.name ?? '?'}, which goes around the IOMMU, knows`} no others`,
      guest.iommu === null ? '"2MiB", "1GiB", or an "iommu"' : '"2MiB", "1GiB", or VIRTIO_F_ACCESS_PLATFORM',
    );
}

/**
 * Bytes of guest memory for the DPDK program where its rings and buffers take `bytes`: whole pages, which begin behind the
 * `kernel` bytes at the next page. A pool of a given size takes the place of the buffers that were counted.
 */
export function dpdkBytes(guest: DraftGuest, bytes: number, kernel: number): number {
  const page = PAGE_BYTES[guest.dpdk?.hugepages ?? '2MiB'];
  const mempool = guest.dpdk?.mempool ?? null;
  let buffers = 0;
  for (const nic of guest.nics ?? [])
    if (nic?.driver === 'virtio-pmd') buffers += (nic.queuePairs ?? 0) * 2 * (nic.queueSize ?? 0);
  const needed = mempool === null ? bytes : bytes + (mempool - buffers) * BUFFER_BYTES;
  const gap = (page - (kernel % page)) % page;
  return gap + Math.ceil(needed / page) * page;
}

/** qemu backends/hostmem-file.c, file_ram_alloc(): RAM is at least one page. */
export function checkGuestPages(guest: DraftGuest, at: string, faults: Faults): void {
  if (guest.hugepages === null && guest.nics?.every((nic) => nic?.backend !== undefined)) {
    const shared = guest.nics.some((nic) => nic?.backend === 'vhost-user');
    const fits = guest.memory === null || guest.memory === undefined || guest.memory >= PAGE_BYTES['2MiB'];
    guest.hugepages = shared && fits ? '2MiB' : '4KiB';
  }
  const { hugepages, memory } = guest;
  if (hugepages === null || hugepages === undefined || memory === null || memory === undefined) return;
  if (memory < PAGE_BYTES[hugepages])
    faults.add(
      `${at}/hugepages`,
      'memory-too-small',
      `${formatSize(memory)} of RAM are less than a page of ${hugepages}`,
      `a "memory" of at least ${hugepages}, or smaller pages`,
    );
}

// ---- the amounts of a host --------------------------------------------------------------------------------------
export type Amounts = Record<'2MiB' | '1GiB', number>;
/** Who has how many pages. */
export interface HugepageUse {
  readonly who: string;
  readonly pages: Amounts;
}

/**
 * Pages that Open vSwitch takes for so many bytes from what is left: large ones first (dpdk lib/eal/linux/eal_memory.c,
 * calc_num_pages_per_socket()). Null: there are not enough.
 */
export function socketPages(bytes: number, left: Amounts): Amounts | null {
  const large = Math.min(left['1GiB'], Math.floor(bytes / GiB));
  const small = Math.ceil((bytes - large * GiB) / (2 * MiB));
  return small <= left['2MiB'] ? { '2MiB': small, '1GiB': large } : null;
}
/** Pages that back a guest's RAM. */
export function ramPages(hugepages: PageSize, memory: number): Amounts {
  const pages = Math.ceil(memory / PAGE_BYTES[hugepages]);
  return { '2MiB': hugepages === '2MiB' ? pages : 0, '1GiB': hugepages === '1GiB' ? pages : 0 };
}

/** ovs lib/netdev-dpdk.c: with fewer mbufs a port cannot be added. */
export const MIN_NB_MBUF = 4096 * 4;
/** NETDEV_DPDK_MBUF_ALIGN. */
const MBUF_ALIGN = 1024;
/** struct rte_mbuf, struct dp_packet and headroom around the data (Red Hat, NFV planning guide, OVS-DPDK memory parameters). */
const MBUF_OVERHEAD = 800;
const ETHERNET_OVERHEAD = 18;
const ETH_DATA_LEN = 1500;
/** dpdk_buf_size(): data of an mbuf for this MTU, and what is around it. */
export const mbufBytes = (mtu: number): number =>
  Math.ceil((mtu + ETHERNET_OVERHEAD) / MBUF_ALIGN) * MBUF_ALIGN + MBUF_OVERHEAD;
/** MTUs of the pools that ports of these MTUs (null: Ethernet's) have: those whose mbufs are as long share one (dpdk_mp_get()). */
export function poolMtus(mtus: readonly (number | null)[]): number[] {
  const all = [ETH_DATA_LEN, ...mtus.map((mtu) => Math.max(ETH_DATA_LEN, mtu ?? 0))];
  return [...new Map(all.map((mtu) => [mbufBytes(mtu), mtu])).values()].sort((a, b) => a - b);
}

/** Open vSwitch starts first, then the guests in the order of the document; nobody gives anything back. */
export function checkHugepages(host: DraftHost, at: string, faults: Faults): void {
  const { hugepages } = host;
  if (hugepages === null || hugepages === undefined) return;
  const { '2MiB': small, '1GiB': large, socketMem } = hugepages;
  if (small === undefined || large === undefined || socketMem === undefined) return;
  const left: Amounts = { '2MiB': small, '1GiB': large };
  const uses: HugepageUse[] = [];
  const take = (who: string, pages: Amounts): void => {
    left['2MiB'] -= pages['2MiB'];
    left['1GiB'] -= pages['1GiB'];
    uses.push({ who, pages });
  };
  if (socketMem % (2 * MiB) !== 0)
    faults.add(`${at}/hugepages/socketMem`, 'not-page-aligned', `${formatSize(socketMem)} is not a multiple of 2 MiB`);
  if (host.bridges?.some((bridge) => bridge?.datapath === 'netdev')) {
    const pages = socketPages(socketMem, left);
    if (pages === null) {
      const has = `${small} pages of 2MiB and ${large} of 1GiB`;
      faults.add(
        `${at}/hugepages`,
        'not-enough-hugepages',
        `Open vSwitch with DPDK asks for ${formatSize(socketMem)} when it starts, and the host has ${has}`,
        `more pages, or a smaller "socketMem"`,
      );
      return;
    }
    const mtus = (host.guests ?? []).flatMap((g) => g?.nics?.map((nic) => nic?.mtu ?? null) ?? []);
    const least = poolMtus(mtus).reduce((n, mtu) => n + MIN_NB_MBUF * mbufBytes(mtu), 0);
    if (socketMem < least + 2 * MiB)
      faults.add(
        `${at}/hugepages/socketMem`,
        'memory-too-small',
        `${formatSize(socketMem)} hold no pool of ${MIN_NB_MBUF} mbufs for each size of frame`,
        `at least ${Math.ceil(least / MiB) + 2}MiB`,
      );
    take('Open vSwitch', pages);
  }
  eachOf(host.guests, `${at}/guests`, (guest, p) => {
    const { hugepages: page, memory } = guest;
    if (page === null || page === undefined || page === '4KiB' || memory === null || memory === undefined) return;
    const pages = ramPages(page, memory);
    if (pages[page] <= left[page]) {
      take(`guest ${guest.name ?? '?'}`, pages);
      return;
    }
    const taken = uses.filter((use) => use.pages[page] > 0).map((use) => `${use.who} has ${use.pages[page]}`);
    faults.add(
      `${p}/hugepages`,
      'not-enough-hugepages',
      `guest ${guest.name ?? '?'} asks for ${pages[page]} pages of ${page} for its RAM, and ${left[page]} of ${page === '2MiB' ? small : large} are left${taken.length === 0 ? '' : `: ${taken.join(', ')}`}`,
      'more pages at the host, less "memory", or other pages',
    );
  });
}
