// Strokes of a pen: points in a square of side 1, and how they are drawn.

export class Drawing {
  strokes = [];

  /** Begins a stroke; `thickness` is a part of the square's side. */
  begin(point, thickness) {
    this.strokes.push({ points: [point], thickness });
  }

  extend(points) {
    this.strokes.at(-1).points.push(...points);
  }

  undo() {
    this.strokes.pop();
  }

  clear() {
    this.strokes = [];
  }

  get isEmpty() {
    return !this.strokes.length;
  }

  /** Draws all strokes in one colour into a square of `side` pixels. */
  draw(context, side, colour) {
    context.strokeStyle = context.fillStyle = colour;
    context.lineCap = context.lineJoin = "round";
    for (const { points, thickness } of this.strokes) {
      const [[x, y], ...rest] = points.map(([px, py]) => [px * side, py * side]);
      context.lineWidth = thickness * side;
      context.beginPath();
      context.moveTo(x, y);
      // A dot is a line to where it is; else curves through the middles of what was moved.
      if (!rest.length) context.lineTo(x, y);
      rest.forEach(([nextX, nextY], i) => {
        const [x1, y1] = rest[i + 1] ?? [nextX, nextY];
        context.quadraticCurveTo(nextX, nextY, (nextX + x1) / 2, (nextY + y1) / 2);
      });
      context.stroke();
    }
  }
}
