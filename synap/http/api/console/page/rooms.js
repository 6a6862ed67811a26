// The rooms, in the order in which they are shown.

import { ChangesRoom } from "./changes/room.js";
import { ChartsRoom } from "./charts/room.js";
import { ClusterRoom } from "./cluster/room.js";
import { KeysRoom } from "./keys/room.js";
import { OperationsRoom } from "./operations/room.js";

export const ROOMS = [
  { name: "cluster", title: "Cluster", Room: ClusterRoom },
  { name: "charts", title: "Charts", Room: ChartsRoom },
  { name: "keys", title: "Keys", Room: KeysRoom },
  { name: "changes", title: "Changes", Room: ChangesRoom },
  { name: "operations", title: "Operations", Room: OperationsRoom },
];
