import type { Elect, Turn } from "../relay/standby";
import { standingForElection } from "../relay/turns";
import type { SimulatedProcess } from "./process";
import type { World } from "./world";

interface Holder {
  readonly process: SimulatedProcess;
  readonly turn: Turn;
  hasLeft: boolean;
}

/** The real election of a run's relays, and who has a turn. */
export class Elections {
  private readonly holders = new Set<Holder>();

  constructor(private readonly world: World) {}

  /**
   * A relay that is cut off or stands still may believe in a turn that another one has by now. One that is connected and
   * awake knows better.
   */
  of(process: SimulatedProcess): Elect {
    const elect = standingForElection(this.world.clientOf(process));
    return async (path, signal) => {
      const turn = await elect(path, signal);
      const others = [...this.holders].filter((each) => believesIn(each));
      if (others.length > 0) this.world.problems.push("a relay has its turn while another one has it");
      const holder: Holder = { process, turn, hasLeft: false };
      this.holders.add(holder);
      const leave = (): Promise<void> => {
        holder.hasLeft = true;
        this.holders.delete(holder);
        return turn.leave();
      };
      return { lost: turn.lost, leave };
    };
  }
}

function believesIn({ process: { client }, turn, hasLeft }: Holder): boolean {
  return !hasLeft && !turn.lost.aborted && client.isAwake && client.state === "connected";
}
