/* Pages that are opened from a folder may not start workers, on which the search runs. Here a hidden frame takes the
   place of a worker: its messages are events of its window, and what it posts are events of this object. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.worker = this;
      this.frame.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      };
      const answers = "self.postMessage = (data) => frameElement.worker.dispatchEvent(new MessageEvent('message', {data}))";
      this.frame.srcdoc = `<script>${answers}</script><script src="${address}"></script>`;
      document.body.append(this.frame);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
