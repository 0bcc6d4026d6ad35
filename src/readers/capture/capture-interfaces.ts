/** The interfaces of a capture, one for each place, and how many rows each saw and got. */
import type { Place } from '../../engine/catalog.ts';
import type { RingReader } from '../../engine/event-ring.ts';
import { MAX_PLACES } from '../../engine/events.ts';
import { LINKTYPE_ETHERNET, LINKTYPE_USER0, type PcapngWriter, SNAPLEN_MAX } from './pcapng.ts';

const NOT_YET = -1;
const NOT_WANTED = -2;
/** The place was not there when the capture began. */
const NOT_KNOWN = -3;

export class CaptureInterfaces {
  readonly declared: Place[] = [];
  /** Rows that were read, and rows that were written, by interface. */
  readonly seen: number[] = [];
  readonly written: number[] = [];
  private readonly reader: RingReader;
  private readonly writer: PcapngWriter;
  private readonly ofEvents: boolean;
  private readonly snaplen: number;
  private readonly byPlace = new Int32Array(MAX_PLACES).fill(NOT_KNOWN);
  /** Whether a place that comes later is one of those that are wanted. */
  wants: (place: Place) => boolean = () => true;

  /** `open`: places that get rows later become interfaces then. `snaplen`: of frames. */
  constructor(reader: RingReader, writer: PcapngWriter, open: boolean, ofEvents: boolean, snaplen: number) {
    this.reader = reader;
    this.writer = writer;
    this.ofEvents = ofEvents;
    this.snaplen = snaplen;
    this.byPlace.fill(open ? NOT_YET : NOT_WANTED, 0, reader.catalog.places.length);
  }

  add(place: Place): number {
    const index = this.declared.length;
    this.declared.push(place);
    this.seen.push(0);
    this.written.push(0);
    this.byPlace[place.id] = index;
    return index;
  }

  /** The interface of rows at the place with this id, which is written now where it is new; -1 = not wanted. */
  of(placeId: number): number {
    const index = this.byPlace[placeId]!;
    return index >= 0 ? index : this.late(placeId);
  }
  /** The interface if there is one by now; negative otherwise. */
  find(placeId: number): number {
    return this.byPlace[placeId]!;
  }
  /** A drop at a place that no frame was dropped at when the header was written, or a place that has come since. */
  private late(placeId: number): number {
    const place = this.reader.catalog.places[placeId];
    if (this.byPlace[placeId] === NOT_WANTED || place === undefined) return -1;
    if (this.byPlace[placeId] === NOT_KNOWN && !this.wants(place)) {
      this.byPlace[placeId] = NOT_WANTED;
      return -1;
    }
    const index = this.add(place);
    this.describe(place);
    return index;
  }

  describe(place: Place): void {
    this.writer.interface({
      name: place.name,
      description: place.description,
      // what is cut in rows of events is the data in them
      snaplen: this.ofEvents ? SNAPLEN_MAX : this.snaplen,
      linkType: this.ofEvents ? LINKTYPE_USER0 : LINKTYPE_ETHERNET,
    });
  }
}
