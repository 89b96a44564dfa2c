// One's own orders, deposits and withdrawals, each with its stage.

import { state } from "../own.js";
import { find, make, Rows, showStage, stageMarks, time, write } from "./dom.js";

const COLUMNS = ["order", "side", "price", "size", "filled", "state", "stage", "cancel"];

export class OrdersView {
  /** `cancel(order, button)` ends an order; `final(order)` hears of each that was seen to become final. */
  constructor(units, cancel, final) {
    this.units = units;
    this.final = final;
    this.seen = new Map();
    this.orders = new Rows(find("orders"), ({ order }) => {
      const cells = COLUMNS.map((name) => make("td", { className: name, role: "cell" }));
      const button = make("button", { type: "button", className: "plain", "aria-label": `Cancel order ${order}` }, "Cancel");
      button.addEventListener("click", () => cancel(order, button));
      cells.at(-1).append(button);
      cells.at(-2).append(stageMarks());
      return make("tr", { role: "row", "data-order": order }, ...cells);
    });
    this.transfers = new Rows(find("transfers"), () =>
      make("li", {}, make("span", { className: "what" }), make("span", { className: "when" }), stageMarks()),
    );
  }

  render(own, market) {
    const orders = own?.listed() ?? [];
    this.orders.show(orders, ({ order }) => order, (row, order) => this.#order(row, order, market));
    find("no-orders").hidden = orders.length > 0;
    const transfers = own?.transfers ?? [];
    this.transfers.show(transfers, ({ place, token }) => `${place}/${token}`, (row, { place, time: at, token, amount }) => {
      const size = this.units.named(token, amount < 0n ? -amount : amount);
      write(row.children[0], amount < 0n ? `Withdrawal of ${size}` : `Deposit of ${size}`);
      write(row.children[1], time(at));
      showStage(row.children[2], market.stage(place));
    });
    find("no-transfers").hidden = transfers.length > 0;
  }

  /** Nobody's orders were seen: those that come next are not news. */
  forget() {
    this.seen.clear();
  }

  #order(row, order, market) {
    const cell = Object.fromEntries(COLUMNS.map((name, at) => [name, row.children[at]]));
    const stage = market.stage(order.place);
    row.classList.toggle("over", order.left === 0n);
    row.dataset.side = order.side;
    row.dataset.state = state(order);
    write(cell.order, `#${order.order}`);
    write(cell.side, order.side);
    write(cell.price, this.units.show("price", order.price));
    write(cell.size, this.units.show("size", order.size));
    write(cell.filled, order.unseen ? "–" : this.units.show("size", order.filled));
    write(cell.state, state(order));
    showStage(cell.stage.firstChild, stage);
    const button = cell.cancel.firstChild;
    if (order.left === 0n && !button.hidden) {
      // Whoever cancelled by the keyboard is not thrown to the top of the page.
      if (document.activeElement === button) find("orders-title").focus();
      button.hidden = true;
    }
    const before = this.seen.get(order.order);
    if (before && before !== "final" && stage === "final") this.final(order);
    this.seen.set(order.order, stage);
  }
}
